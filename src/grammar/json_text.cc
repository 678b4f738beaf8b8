// Strings may spell a character in several ways; keys and literals only in one, so that no key is
// there twice.
#include "grammar/json_text.h"

#include "base/check.h"
#include "grammar/code_points.h"

namespace ultraspeed::grammar {
namespace {

constexpr uint32_t kMaxIndent = 32;

const CodePoints& plain_ascii() {
  static const CodePoints kSet = {{' ', '!'}, {'#', '['}, {']', 0x7F}};
  return kSet;
}

const CodePoints& beyond_ascii() {
  static const CodePoints kSet = {{0x80, kMaxCodePoint}};
  return kSet;
}

// REQUIRES: valid UTF-8.
std::vector<char32_t> characters_of(std::string_view text) {
  std::vector<char32_t> characters;
  while (!text.empty()) {
    const Character character = first_character(text);
    US_CHECK(character.num_bytes > 0, "malformed UTF-8");
    characters.push_back(character.code_point);
    text.remove_prefix(character.num_bytes);
  }
  return characters;
}

std::string escape(char32_t c) {
  std::string character;
  append_utf8(c, &character);
  const std::string quoted = Json(character).dump();
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

template <class Make>
ExprId JsonText::shared(const std::string& name, Make make) {
  const auto [place, is_new] = rules_.try_emplace(name);
  if (is_new) {
    const RuleId rule = builder_.add_rule(name);
    place->second = rule;
    builder_.set_body(rule, make());
    return builder_.call(rule);
  }
  return builder_.call(place->second);
}

ExprId JsonText::space() {
  if (spacing_ == JsonSpacing::kCompact) return builder_.sequence({});
  return shared("space", [&] {
    const ExprId indent =
        builder_.repeat(builder_.characters({{'\t', '\t'}, {' ', ' '}}), 0, kMaxIndent);
    const ExprId line_end = builder_.choice({builder_.bytes("\n"), builder_.bytes("\r\n")});
    return builder_.choice(
        {builder_.sequence({}), builder_.bytes(" "), builder_.sequence({line_end, indent})});
  });
}

ExprId JsonText::boolean() {
  return builder_.choice({builder_.bytes("true"), builder_.bytes("false")});
}

ExprId JsonText::any_value() {
  return shared("value", [&] {
    return builder_.choice({any_object(), any_array(), string(), number(), boolean(), null()});
  });
}

ExprId JsonText::any_object() {
  return shared("object", [&] {
    ListExpr list;
    list.tail = member(string(), any_value());
    return brackets("{", std::move(list), "}");
  });
}

ExprId JsonText::any_array() {
  return shared("array", [&] {
    ListExpr list;
    list.tail = any_value();
    return brackets("[", std::move(list), "]");
  });
}

ExprId JsonText::brackets(std::string_view open, ListExpr list, std::string_view close) {
  for (ListExpr::Element& element : list.elements) {
    element.expr = builder_.sequence({space(), element.expr});
  }
  if (list.tail != kNoExpr) list.tail = builder_.sequence({space(), list.tail});
  list.separator = builder_.sequence({space(), builder_.bytes(",")});
  return builder_.sequence({builder_.bytes(std::string(open)), builder_.list(std::move(list)),
                            space(), builder_.bytes(std::string(close))});
}

ExprId JsonText::member(ExprId key, ExprId value) {
  return builder_.sequence({key, space(), builder_.bytes(":"), space(), value});
}

ExprId JsonText::plain_integer() {
  const ExprId digits = builder_.sequence(
      {builder_.characters({{'1', '9'}}),
       builder_.repeat(builder_.characters({{'0', '9'}}), 0, kMaxIntegerDigits - 1)});
  return builder_.sequence(
      {builder_.repeat(builder_.bytes("-"), 0, 1), builder_.choice({builder_.bytes("0"), digits})});
}

ExprId JsonText::integer() {
  return shared("integer", [&] { return plain_integer(); });
}

ExprId JsonText::number() {
  return shared("number", [&] {
    const ExprId digit = builder_.characters({{'0', '9'}});
    const ExprId fraction =
        builder_.sequence({builder_.bytes("."), builder_.repeat(digit, 1, kMaxFractionDigits)});
    const ExprId exponent =
        builder_.sequence({builder_.characters({{'E', 'E'}, {'e', 'e'}}),
                           builder_.repeat(builder_.characters({{'+', '+'}, {'-', '-'}}), 0, 1),
                           builder_.repeat(digit, 1, 2)});
    return builder_.sequence(
        {plain_integer(), builder_.repeat(fraction, 0, 1), builder_.repeat(exponent, 0, 1)});
  });
}

// Characters beyond U+FFFF as two escapes; a surrogate alone is no character.
ExprId JsonText::surrogate_pair() {
  const CodePoints hex = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
  const auto surrogate = [&](const CodePoints& third) {
    return builder_.sequence({builder_.bytes("\\u"), builder_.characters({{'D', 'D'}, {'d', 'd'}}),
                              builder_.characters(third),
                              builder_.repeat(builder_.characters(hex), 2, 2)});
  };
  return builder_.sequence(
      {surrogate({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), surrogate({{'C', 'F'}, {'c', 'f'}})});
}

ExprId JsonText::escaped_character() {
  const CodePoints hex = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
  const CodePoints d = {{'D', 'D'}, {'d', 'd'}};
  const ExprId digit = builder_.characters(hex);
  const ExprId two_digits = builder_.choice(
      {builder_.sequence({builder_.characters(hex.without(d)), digit}),
       builder_.sequence({builder_.characters(d), builder_.characters({{'0', '7'}})})});
  return builder_.choice(
      {builder_.sequence({builder_.bytes("\\"), builder_.characters({{'"', '"'},
                                                                     {'/', '/'},
                                                                     {'\\', '\\'},
                                                                     {'b', 'b'},
                                                                     {'f', 'f'},
                                                                     {'n', 'n'},
                                                                     {'r', 'r'},
                                                                     {'t', 't'}})}),
       builder_.sequence({builder_.bytes("\\u"), two_digits, digit, digit}), surrogate_pair()});
}

// In a string of bounded length every character has states of its own; those of escapes and of
// characters of several bytes are a rule for all.
ExprId JsonText::other_character() {
  return shared("character", [&] {
    return builder_.choice({builder_.characters(beyond_ascii()), escaped_character()});
  });
}

ExprId JsonText::string(uint32_t min, uint32_t max) {
  return shared(fmt::format("string of {} to {} characters", min, max), [&] {
    const bool is_bounded = min > 0 || max != kUnbounded;
    CodePoints plain = plain_ascii();
    if (!is_bounded) plain.add(beyond_ascii());
    const ExprId character = builder_.choice(
        {builder_.characters(plain), is_bounded ? other_character() : escaped_character()});
    return builder_.sequence(
        {builder_.bytes("\""), builder_.repeat(character, min, max), builder_.bytes("\"")});
  });
}

ExprId JsonText::spell(const CodePoints& set) {
  CodePoints must_escape = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  std::vector<ExprId> choices = {builder_.characters(set.without(must_escape))};
  for (const CodePoints::Range& range : must_escape.ranges()) {
    for (char32_t c = range.first; c <= range.last; ++c) {
      if (set.contains(c)) choices.push_back(builder_.bytes(escape(c)));
    }
  }
  return builder_.choice(std::move(choices));
}

// A plain character that is not in the set, which is small.
ExprId JsonText::character_except(const CodePoints& set) {
  const CodePoints ascii = plain_ascii().without(set);
  const CodePoints beyond = beyond_ascii().without(set);
  const bool has_all = beyond.ranges() == beyond_ascii().ranges();
  return builder_.choice(
      {builder_.characters(ascii),
       has_all ? shared("character beyond ASCII", [&] { return builder_.characters(beyond); })
               : builder_.characters(beyond)});
}

// After a common begin with some names, a key goes on with a character that none of them has there,
// and then as it likes; or it ends where no name does.
ExprId JsonText::key_except(const std::vector<std::string>& names) {
  struct Place {
    std::map<std::string, size_t> next;  // by a character as it is spelled
    CodePoints characters;
    bool is_name = false;
    ExprId expr = kNoExpr;  // the rest of a key from here, with the quote
  };
  std::vector<Place> places(1);
  for (const std::string& name : names) {
    size_t place = 0;
    for (const char32_t c : characters_of(name)) {
      const auto [next, is_new] = places[place].next.try_emplace(escape(c), places.size());
      const size_t reached = next->second;
      places[place].characters.add(c, c);
      if (is_new) places.emplace_back();
      place = reached;
    }
    places[place].is_name = true;
  }
  const ExprId quote = builder_.bytes("\"");
  const ExprId rest = shared("rest of a key", [&] {
    CodePoints plain = plain_ascii();
    plain.add(beyond_ascii());
    return builder_.sequence(
        {builder_.repeat(builder_.choice({builder_.characters(plain), escaped_character()}), 0,
                         kUnbounded),
         builder_.bytes("\"")});
  });
  for (size_t i = places.size(); i-- > 0;) {  // places come after those that lead to them
    Place& place = places[i];
    std::vector<ExprId> choices = {builder_.sequence({character_except(place.characters), rest})};
    if (!place.is_name) choices.push_back(quote);
    for (const auto& [spelling, next] : place.next) {
      choices.push_back(builder_.sequence({builder_.bytes(spelling), places[next].expr}));
    }
    place.expr = builder_.choice(std::move(choices));
  }
  return builder_.sequence({quote, places[0].expr});
}

ExprId JsonText::literal(const Json& value) {
  ListExpr list;
  if (value.is_object()) {
    for (const auto& [key, member_value] : value.items()) {
      const ExprId name = builder_.bytes(Json(key).dump());
      list.elements.push_back({member(name, literal(member_value)), true});
    }
    return brackets("{", std::move(list), "}");
  }
  if (value.is_array()) {
    for (const Json& element : value) list.elements.push_back({literal(element), true});
    return brackets("[", std::move(list), "]");
  }
  return builder_.bytes(value.dump());
}

}  // namespace ultraspeed::grammar
