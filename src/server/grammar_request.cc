#include "server/grammar_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace ultraspeed::server {
namespace {

using Kind = GrammarSource::Kind;

// The fields of one object that name a grammar each.
class GrammarFields {
 public:
  explicit GrammarFields(std::optional<GrammarSource>* source) : source_(*source) {}

  // Of the grammar that was read, if one was.
  void set_compact(bool is_compact) {
    if (source_) source_->is_compact = is_compact;
  }

  // A schema, or its JSON in a string.
  ApiStatus read_schema(const Fields& fields, std::string_view name) {
    const Json* schema = fields.find(name);
    if (schema == nullptr) return {};
    const std::string path = fields.path(name);
    if (schema->is_object()) return add({Kind::kJsonSchema, schema->dump(), path});
    if (!schema->is_string()) {
      return invalid_field(path, fmt::format("'{}' must be a JSON schema or one in a string, not "
                                             "{}.",
                                             path, type_name(*schema)));
    }
    auto parsed = parse_json(schema->get_ref<const std::string&>(), fmt::format("'{}'", path));
    if (!parsed) return invalid_field(path, parsed.error().message);
    return add({Kind::kJsonSchema, parsed->dump(), path});
  }

  ApiStatus read_text(const Fields& fields, std::string_view name, Kind kind) {
    if (fields.find(name) == nullptr) return {};
    GrammarSource source{kind, {}, fields.path(name)};
    US_TRY(fields.read(name, &source.text));
    return add(std::move(source));
  }

  ApiStatus read_choice(const Fields& fields, std::string_view name) {
    const Json* choice = nullptr;
    US_TRY(fields.read_array(name, &choice));
    if (choice == nullptr) return {};
    const std::string path = fields.path(name);
    const auto is_string = [](const Json& text) { return text.is_string(); };
    if (choice->empty() || !std::all_of(choice->begin(), choice->end(), is_string)) {
      return invalid_field(path, fmt::format("'{}' must have one string or more.", path));
    }
    return add({Kind::kChoice, choice->dump(), path});
  }

  ApiStatus add(GrammarSource source) {
    if (source_) {
      return invalid_field(source.param, fmt::format("'{}' and '{}' both say what the answer must "
                                                     "be; one may.",
                                                     source_->param, source.param));
    }
    source_ = std::move(source);
    return {};
  }

 private:
  std::optional<GrammarSource>& source_;
};

ApiStatus read_response_format(const Fields& fields, GrammarFields* grammar) {
  const Json* format = nullptr;
  US_TRY(fields.read_object("response_format", &format));
  if (format == nullptr) return {};
  const Fields of_format(*format, "response_format");
  std::string type;
  US_TRY(of_format.read("type", &type));
  if (type == "text") return {};
  if (type == "json_object") return grammar->add({Kind::kJsonObject, {}, "response_format"});
  if (type != "json_schema") {
    return unsupported_field("response_format.type",
                             fmt::format("'response_format.type' is '{}'; it must be 'text', "
                                         "'json_object' or 'json_schema'.",
                                         type));
  }
  const Json* named = nullptr;
  US_TRY(of_format.read_object("json_schema", &named));
  const Fields of_schema(named == nullptr ? *format : *named, "response_format.json_schema");
  if (named == nullptr || of_schema.find("schema") == nullptr) {
    return invalid_field("response_format.json_schema.schema",
                         "'response_format.json_schema.schema' is missing.");
  }
  return grammar->read_schema(of_schema, "schema");
}

ApiStatus read_structured_outputs(const Fields& fields, GrammarFields* grammar) {
  const Json* outputs = nullptr;
  US_TRY(fields.read_object("structured_outputs", &outputs));
  if (outputs == nullptr) return {};
  const Fields of_outputs(*outputs, "structured_outputs");
  if (of_outputs.find("structural_tag") != nullptr) {
    return unsupported_field("structured_outputs.structural_tag",
                             "'structured_outputs.structural_tag' is not supported; 'json', "
                             "'json_object', 'regex', 'choice' and 'grammar' are.");
  }
  US_TRY(grammar->read_schema(of_outputs, "json"));
  bool is_object = false;
  US_TRY(of_outputs.read("json_object", &is_object));
  if (is_object) {
    US_TRY(grammar->add({Kind::kJsonObject, {}, "structured_outputs.json_object"}));
  }
  US_TRY(grammar->read_text(of_outputs, "regex", Kind::kRegex));
  US_TRY(grammar->read_choice(of_outputs, "choice"));
  US_TRY(grammar->read_text(of_outputs, "grammar", Kind::kEbnf));
  bool is_compact = false;
  US_TRY(of_outputs.read("disable_any_whitespace", &is_compact));
  grammar->set_compact(is_compact);
  return {};
}

}  // namespace

ApiResult<std::optional<GrammarSource>> read_grammar(const Fields& fields) {
  std::optional<GrammarSource> source;
  GrammarFields grammar(&source);
  US_TRY(read_response_format(fields, &grammar));
  US_TRY(read_structured_outputs(fields, &grammar));
  US_TRY(grammar.read_schema(fields, "guided_json"));
  US_TRY(grammar.read_text(fields, "guided_regex", Kind::kRegex));
  US_TRY(grammar.read_choice(fields, "guided_choice"));
  US_TRY(grammar.read_text(fields, "guided_grammar", Kind::kEbnf));
  return source;
}

}  // namespace ultraspeed::server
