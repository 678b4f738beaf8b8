// A walk that has to end prefers the shortest ways out of JSON values.
#include "grammar/test_support.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::grammar {
namespace {

// What ends JSON values soonest, outside of strings, best first.
constexpr std::string_view kEnders = "}]01en,:\"";
constexpr std::string_view kQuote = "\"";

bool is_in_string(std::string_view text) {
  bool is_inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_inside && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      is_inside = !is_inside;
    }
  }
  return is_inside;
}

int32_t choose_ender(const Machine& machine, const std::vector<int32_t>& allowed,
                     std::string_view text, std::mt19937* random) {
  if (std::find(allowed.begin(), allowed.end(), stop_token(machine.vocabulary)) != allowed.end()) {
    return stop_token(machine.vocabulary);
  }
  for (const char ender : is_in_string(text) ? kQuote : kEnders) {
    const int32_t token = static_cast<uint8_t>(ender);
    if (std::find(allowed.begin(), allowed.end(), token) != allowed.end()) return token;
  }
  return allowed[(*random)() % allowed.size()];
}

}  // namespace

Grammar value_or_fail(Result<Grammar> grammar) {
  US_CHECK(grammar.has_value(), "{}", grammar.error().message);
  return *std::move(grammar);
}

Vocabulary test_vocabulary(const std::vector<std::string>& tokens) {
  std::vector<std::string> all;
  for (int byte = 0; byte < 256; ++byte) all.emplace_back(1, static_cast<char>(byte));
  all.insert(all.end(), tokens.begin(), tokens.end());
  all.emplace_back("<stop>");
  const std::vector<std::string_view> views(all.begin(), all.end());
  const auto stop = static_cast<int32_t>(all.size() - 1);
  auto vocabulary = Vocabulary::make(views, {&stop, 1});
  US_CHECK(vocabulary.has_value());
  return *std::move(vocabulary);
}

int32_t stop_token(const Vocabulary& vocabulary) {
  return vocabulary.stop_ids()[0];
}

std::vector<std::string> json_tokens() {
  return {"{\"",       "\":",
          "\": ",      "\",\"",
          "\"}",       "\"}]",
          "}}",        "]}",
          "}]",        "},{",
          "[[",        "{}",
          "[]",        " {",
          ", ",        ",\"",
          "true",      "false",
          "null",      "tr",
          "ue",        "12",
          "0.5",       "1e",
          "-1",        "\\n",
          "\\u00",     "\\\"",
          "\\",        "ab",
          "abc",       "name",
          "\"name\":", "\xC3\xA9",
          "\xE2\x82",  "\xAC",
          "\x82\xAC",  "\xF0\x9F\x98\x80",
          "\xF0\x9F",  "a\xC3",
          "\n  ",      "  ",
          "\":\"",     "\":[",
          "\":{\"",    "\"],",
          "1,",        "2]",
          "3}",        "\"a\"",
          "\"a\":1",   "\"b\":"};
}

bool matches(const Grammar& grammar, std::string_view text) {
  Stacks stacks;
  std::vector<Item> items = {{grammar.start(), kBottom}};
  std::vector<Item> next;
  for (const char byte : text) {
    next.clear();
    stacks.advance(grammar, items, static_cast<uint8_t>(byte), &next);
    items.swap(next);
  }
  stacks.add_returns(grammar, &items);
  return std::any_of(items.begin(), items.end(), [&](Item item) {
    return item.node == kBottom && grammar.is_final(item.state);
  });
}

std::vector<uint64_t> Machine::mask(const Matcher& matcher) const {
  std::vector<uint64_t> words(mask_words(vocabulary.size()));
  matcher.fill_mask(words);
  return words;
}

std::vector<int32_t> Machine::allowed(const Matcher& matcher) const {
  const std::vector<uint64_t> words = mask(matcher);
  std::vector<int32_t> tokens;
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    if ((words[id / 64] >> (id % 64) & 1) != 0) tokens.push_back(static_cast<int32_t>(id));
  }
  return tokens;
}

std::string random_walk(Machine* machine, size_t num_free_tokens, std::mt19937* random) {
  constexpr size_t kMaxTokens = 5000;
  Matcher matcher = machine->matcher();
  std::string text;
  for (size_t i = 0; !matcher.is_stopped(); ++i) {
    const std::vector<int32_t> allowed = machine->allowed(matcher);
    US_CHECK(!allowed.empty() && i < kMaxTokens, "stuck after '{}'", text);
    const int32_t token = i < num_free_tokens ? allowed[(*random)() % allowed.size()]
                                              : choose_ender(*machine, allowed, text, random);
    US_CHECK(matcher.accept(token), "token {} after '{}'", token, text);
    text += machine->vocabulary.bytes(token);
  }
  return text;
}

std::vector<int32_t> random_tokens(const Vocabulary& vocabulary, std::string_view text,
                                   std::mt19937* random) {
  std::vector<int32_t> tokens;
  while (!text.empty()) {
    std::vector<int32_t> choices;
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      const std::string_view bytes = vocabulary.bytes(static_cast<int32_t>(id));
      if (!bytes.empty() && text.starts_with(bytes)) choices.push_back(static_cast<int32_t>(id));
    }
    tokens.push_back(choices[(*random)() % choices.size()]);
    text.remove_prefix(vocabulary.bytes(tokens.back()).size());
  }
  return tokens;
}

}  // namespace ultraspeed::grammar
