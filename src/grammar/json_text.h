// The texts of JSON values as rules of a grammar: whitespace, strings, numbers, any value.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "grammar/code_points.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

inline constexpr uint32_t kMaxIntegerDigits = 19;   // all of 64 bits
inline constexpr uint32_t kMaxFractionDigits = 17;  // all of a double

using Json = nlohmann::ordered_json;  // properties keep their order

inline constexpr size_t kMaxKeyBytes = 512;

enum class JsonSpacing {
  kFlexible,  // a space, or a line break and up to 32 spaces and tabs, wherever JSON allows them
  kCompact,   // none
};

// Rules are made when they are first asked for, and shared.
class JsonText {
 public:
  JsonText(JsonSpacing spacing, GrammarBuilder* builder) : spacing_(spacing), builder_(*builder) {}

  ExprId space();
  ExprId any_value();
  ExprId any_object();
  ExprId any_array();
  ExprId boolean();
  ExprId null() { return builder_.bytes("null"); }
  // Up to 19 digits; number: a fraction of up to 17 and an exponent of up to 2 more.
  ExprId integer();
  ExprId number();

  // A string of min to max characters, in quotes.
  ExprId string(uint32_t min = 0, uint32_t max = kUnbounded);
  // A character of the set as strings spell it, with the shortest escape where there must be one.
  ExprId spell(const CodePoints& set);
  // A key, in quotes, that is none of the names. REQUIRES: names of at most kMaxKeyBytes.
  ExprId key_except(const std::vector<std::string>& names);
  // This very value.
  ExprId literal(const Json& value);

  // { } or [ ] around a list, whose elements come without space around them.
  ExprId brackets(std::string_view open, ListExpr list, std::string_view close);
  // key : value
  ExprId member(ExprId key, ExprId value);

 private:
  // The rule of this name; `make` gives its body the first time.
  template <class Make>
  ExprId shared(const std::string& name, Make make);
  ExprId surrogate_pair();
  ExprId escaped_character();
  ExprId other_character();
  ExprId plain_integer();
  ExprId character_except(const CodePoints& set);

  const JsonSpacing spacing_;
  GrammarBuilder& builder_;
  std::map<std::string, RuleId> rules_;
};

}  // namespace ultraspeed::grammar
