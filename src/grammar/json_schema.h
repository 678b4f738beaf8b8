// JSON Schema (draft 2020-12, the part that docs/grammars.md lists) as a grammar of the JSON texts
// that are valid.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"

namespace ultraspeed::grammar {

struct JsonSchemaOptions {
  JsonSpacing spacing = JsonSpacing::kFlexible;
  // The rules of any values, of this spacing, for several schemas of one grammar; nullptr: its own.
  JsonText* text = nullptr;
};

// Properties come in the schema's order. Errors begin with the JSON pointer of what is wrong:
// kInvalidArgument for a malformed schema or one that nothing finite satisfies, kUnsupported for a
// keyword that cannot be kept to, kOutOfMemory beyond limits.h. REQUIRES: strings are UTF-8, as a
// parser leaves them.
Result<Grammar> parse_json_schema(const Json& schema, const JsonSchemaOptions& options = {});

// For schemas inside of another language: the rule of each part of the schema, of those that
// references such as "#/properties/size" name; "#" is all of it. Errors: as parse_json_schema().
Result<std::vector<RuleId>> add_json_schema(const Json& schema,
                                            std::span<const std::string> references,
                                            const JsonSchemaOptions& options,
                                            GrammarBuilder* builder);

// How another language ends a value, whose strings it writes as they are, without quotes.
struct BareEnd {
  std::string separator;      // between the value and the word
  std::string word;           // which no string contains
  ExprId any_text = kNoExpr;  // add_any_text()
};

struct BareValue {
  std::string reference;  // of its schema, as above
  // ASCII characters with which no string begins, nor white space and then they: it would be read
  // as something else. Those that the schema lists are written where the function says so.
  std::string not_first;
  std::function<bool(const std::string&)> can_write;
};

// Any text and its end.
ExprId add_any_text(const std::string& separator, const std::string& word, GrammarBuilder* builder);

// Values with their ends. Errors: as parse_json_schema().
Result<std::vector<ExprId>> add_bare_values(const Json& schema, std::span<const BareValue> values,
                                            const BareEnd& end, const JsonSchemaOptions& options,
                                            GrammarBuilder* builder);

// Any JSON object.
inline Json any_object_schema() {
  return {{"type", "object"}};
}
Result<Grammar> json_object_grammar(const JsonSchemaOptions& options = {});

}  // namespace ultraspeed::grammar
