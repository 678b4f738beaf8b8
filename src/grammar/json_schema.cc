// A schema becomes an expression; objects, arrays, enumerations and what is referred to become
// rules.
#include "grammar/json_schema.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/json_format.h"
#include "grammar/json_number.h"
#include "grammar/json_schema_keywords.h"
#include "grammar/json_schema_types.h"
#include "grammar/limits.h"
#include "grammar/regex.h"

namespace ultraspeed::grammar {
namespace {

constexpr size_t kMaxSchemas = 20'000;        // subschemas compiled, those of allOf each time
constexpr size_t kMaxMergedValues = 100'000;  // JSON values copied to combine schemas
constexpr uint32_t kMaxBareLength = 2000;     // each character has a state for each byte of the end

class SchemaCompiler {
 public:
  SchemaCompiler(const Json& root, const JsonSchemaOptions& options, GrammarBuilder* builder)
      : root_(root),
        builder_(*builder),
        own_text_(options.spacing, builder),
        text_(options.text != nullptr ? *options.text : own_text_) {}

  // The rules of these parts of the root.
  Result<std::vector<RuleId>> run(std::span<const std::string> references) {
    US_TRY(check_schema_size(root_));
    std::vector<RuleId> rules;
    for (const std::string& part : references) rules.push_back(rule_of_reference(part));
    US_TRY(compile_pending());
    return rules;
  }

  Result<std::vector<ExprId>> run_bare(std::span<const BareValue> values, const BareEnd& end) {
    US_TRY(check_schema_size(root_));
    end_ = &end;
    std::vector<ExprId> compiled;
    for (const BareValue& value : values) {
      US_ASSIGN(const Json* schema, resolve_reference(root_, value.reference, "#"));
      bare_ = &value;
      US_ASSIGN(const ExprId expr, compile(*schema, value.reference, 0));
      compiled.push_back(expr);
    }
    bare_ = nullptr;
    US_TRY(compile_pending());
    return compiled;
  }

 private:
  Status compile_pending() {
    while (!pending_.empty()) {
      const auto [reference, rule] = std::move(pending_.front());
      pending_.pop_front();
      US_ASSIGN(const Json* schema, resolve_reference(root_, reference, "#"));
      US_ASSIGN(const ExprId body, compile(*schema, reference, 0));
      builder_.set_body(rule, body);
    }
    return {};
  }

  RuleId rule_of_reference(const std::string& reference) {
    const auto [place, is_new] = references_.try_emplace(reference);
    if (is_new) {
      place->second = builder_.add_rule(reference);
      pending_.emplace_back(reference, place->second);
    }
    return place->second;
  }

  ExprId add_rule(const std::string& path, ExprId body) {
    const RuleId rule = builder_.add_rule(path);
    builder_.set_body(rule, body);
    return builder_.call(rule);
  }

  ExprId nothing() { return builder_.choice({}); }
  ExprId any_value() { return bare_ != nullptr ? end_->any_text : text_.any_value(); }

  // A string as the place has it: in quotes, or bare with its end.
  ExprId add_string(const std::string& path, ExprId content, const std::string& not_first) {
    const RuleId rule = builder_.add_rule(path);
    if (bare_ != nullptr) {
      builder_.set_body(rule, builder_.sequence({content, builder_.bytes(end_->separator)}));
      builder_.set_end(rule, {end_->word, not_first});
    } else {
      const ExprId quote = builder_.bytes("\"");
      builder_.set_body(rule, builder_.sequence({quote, content, quote}));
    }
    return builder_.call(rule);
  }

  // A value that is no string, or a string in quotes.
  ExprId with_end(ExprId value) {
    if (bare_ == nullptr) return value;
    return builder_.sequence({value, builder_.bytes(end_->separator + end_->word)});
  }

  // The schema as an expression. `path` is its JSON pointer; depth counts schemas inside of
  // schemas.
  Result<ExprId> compile(const Json& schema, const std::string& path, uint32_t depth) {
    US_TRY(builder_.check_size());
    if (++num_schemas_ > kMaxSchemas || depth > kMaxDepth) {
      return make_error(ErrorCode::kOutOfMemory,
                        "{}: too many or too deep schemas ({} in all, {} levels with references)",
                        path, kMaxSchemas, kMaxDepth);
    }
    if (schema.is_boolean()) return schema.get<bool>() ? any_value() : nothing();
    if (!schema.is_object()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: expected an object or a boolean", path);
    }
    US_TRY(check_keywords(schema, path));
    if (schema.contains("$ref")) return compile_reference(schema, path, depth);
    if (schema.contains("allOf")) return compile_all(schema, path, depth);
    if (schema.contains("anyOf")) return compile_any(schema, "anyOf", path, depth);
    if (schema.contains("oneOf")) return compile_any(schema, "oneOf", path, depth);
    if (schema.contains("enum") || schema.contains("const")) return compile_enum(schema, path);
    return compile_types(schema, path, depth);
  }

  Result<ExprId> compile_reference(const Json& schema, const std::string& path, uint32_t depth) {
    const std::string reference = schema["$ref"].get<std::string>();
    US_ASSIGN(const Json* target, resolve_reference(root_, reference, path));
    if (!restricts_besides(schema, {"$ref"})) {
      if (bare_ != nullptr) return compile(*target, path, depth + 1);
      return builder_.call(rule_of_reference(reference));
    }
    Json rest = schema;
    rest.erase("$ref");
    return compile_merged(std::move(rest), *target, path, depth);
  }

  Result<ExprId> compile_all(const Json& schema, const std::string& path, uint32_t depth) {
    Json merged = schema;
    merged.erase("allOf");
    size_t index = 0;
    for (const Json& part : schema["allOf"]) {
      US_TRY(merge(part, fmt::format("{}/allOf/{}", path, index++), &merged));
    }
    return compile(merged, path, depth + 1);
  }

  Result<ExprId> compile_merged(Json schema, const Json& other, const std::string& path,
                                uint32_t depth) {
    US_TRY(merge(other, path, &schema));
    return compile(schema, path, depth + 1);
  }

  // References of the part are followed; *schema becomes false if nothing satisfies both.
  Status merge(const Json& part, const std::string& path, Json* schema) {
    const Json* source = &part;
    for (uint32_t i = 0;
         source->is_object() && source->contains("$ref") && !restricts_besides(*source, {"$ref"});
         ++i) {
      if (i == kMaxDepth) {
        return make_error(ErrorCode::kInvalidArgument, "{}: references in a circle", path);
      }
      US_TRY(check_keywords(*source, path));
      US_ASSIGN(source, resolve_reference(root_, (*source)["$ref"].get<std::string>(), path));
    }
    if (source->is_boolean()) {
      if (!source->get<bool>()) *schema = false;
      return {};
    }
    if (!source->is_object()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: expected an object or a boolean", path);
    }
    if (schema->is_boolean()) return {};
    num_merged_values_ += count_values(*source).value_or(kMaxMergedValues) +
                          count_values(*schema).value_or(kMaxMergedValues);
    if (num_merged_values_ > kMaxMergedValues) {
      return make_error(ErrorCode::kOutOfMemory, "{}: combining schemas takes too much", path);
    }
    return merge_schema(*source, path, schema);
  }

  Result<ExprId> compile_any(const Json& schema, const std::string& key, const std::string& path,
                             uint32_t depth) {
    Json rest = schema;
    rest.erase(key);
    std::vector<ExprId> choices;
    for (const Json& choice : schema[key]) {
      const std::string place = fmt::format("{}/{}/{}", path, key, choices.size());
      US_ASSIGN(const ExprId compiled, restricts_besides(schema, {key})
                                           ? compile_merged(rest, choice, place, depth)
                                           : compile(choice, place, depth + 1));
      choices.push_back(compiled);
    }
    return builder_.choice(std::move(choices));
  }

  Result<ExprId> compile_enum(const Json& schema, const std::string& path) {
    if (restricts_besides(schema, {"enum", "const", "type", "nullable"})) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: enum and const can be combined with type alone", path);
    }
    US_ASSIGN(const std::vector<std::string> types, schema_types(schema, path));
    Json values = schema.contains("enum") ? schema["enum"] : Json::array({schema["const"]});
    std::vector<ExprId> choices;
    std::vector<ExprId> bare_texts;
    for (const Json& value : values) {
      const bool is_typed = std::any_of(types.begin(), types.end(), [&](const std::string& type) {
        return is_of_type(value, type);
      });
      const bool is_const = !schema.contains("const") || schema["const"] == value;
      if (!is_typed || !is_const) continue;
      if (bare_ == nullptr || !value.is_string()) {
        choices.push_back(with_end(text_.literal(value)));
      } else if (const auto& text = value.get_ref<const std::string&>(); bare_->can_write(text)) {
        bare_texts.push_back(builder_.bytes(text));
      }
    }
    if (!bare_texts.empty()) {
      choices.push_back(add_string(path, builder_.choice(std::move(bare_texts)), {}));
    }
    const bool is_one = choices.size() == 1;
    const ExprId choice = builder_.choice(std::move(choices));
    return is_one ? choice : add_rule(path, choice);
  }

  Result<ExprId> compile_types(const Json& schema, const std::string& path, uint32_t depth) {
    US_ASSIGN(const std::vector<std::string> types, schema_types(schema, path));
    if (!restricts_besides(schema, {})) return any_value();
    std::vector<ExprId> choices;
    for (const std::string& type : types) {
      US_ASSIGN(const ExprId choice, compile_type(type, schema, path, depth));
      choices.push_back(choice);
    }
    return builder_.choice(std::move(choices));
  }

  Result<ExprId> compile_type(const std::string& type, const Json& schema, const std::string& path,
                              uint32_t depth) {
    if (type == "string") return compile_string(schema, path);
    const BareValue* const bare = std::exchange(bare_, nullptr);  // what is in a value is JSON
    const Result<ExprId> value = compile_other_type(type, schema, path, depth);
    bare_ = bare;
    if (!value) return value;
    return with_end(*value);
  }

  Result<ExprId> compile_other_type(const std::string& type, const Json& schema,
                                    const std::string& path, uint32_t depth) {
    if (type == "object") {
      const bool is_any = !restricts_by(schema, {"properties", "required", "additionalProperties"});
      return is_any ? text_.any_object() : compile_object(schema, path, depth);
    }
    if (type == "array") {
      const bool is_any = !restricts_by(schema, {"items", "prefixItems", "minItems", "maxItems"});
      return is_any ? text_.any_array() : compile_array(schema, path, depth);
    }
    if (type == "boolean") return text_.boolean();
    if (type == "null") return text_.null();
    return compile_number(schema, type == "integer", path);
  }

  Result<ExprId> compile_number(const Json& schema, bool is_integer, const std::string& path) {
    const Json* multiple = find_member(schema, "multipleOf");
    if (multiple != nullptr && !(is_integer && *multiple == 1)) {
      return make_error(ErrorCode::kUnsupported, "{}/multipleOf: this keyword is not supported",
                        path);
    }
    US_ASSIGN(const std::optional<NumberBound> low,
              tighter_bound(schema, "minimum", "exclusiveMinimum", path));
    US_ASSIGN(const std::optional<NumberBound> high,
              tighter_bound(schema, "maximum", "exclusiveMaximum", path));
    if (!low && !high) return is_integer ? text_.integer() : text_.number();
    return add_rule(path, add_number_between(low, high, is_integer, &builder_));
  }

  static Result<std::optional<NumberBound>> tighter_bound(const Json& schema,
                                                          const std::string& inclusive,
                                                          const std::string& exclusive,
                                                          const std::string& path) {
    const Json* with = find_member(schema, inclusive);
    const Json* without = find_member(schema, exclusive);
    if (with == nullptr && without == nullptr) return std::nullopt;
    const bool is_low = inclusive == "minimum";
    const bool is_exclusive =
        with == nullptr || (without != nullptr && (is_low ? *without >= *with : *without <= *with));
    return number_bound(is_exclusive ? *without : *with, is_exclusive,
                        fmt::format("{}/{}", path, is_exclusive ? exclusive : inclusive));
  }

  Result<ExprId> compile_string(const Json& schema, const std::string& path) {
    const Json* pattern = find_member(schema, "pattern");
    const Json* format = find_member(schema, "format");
    const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
    if ((pattern != nullptr) + (format != nullptr) + has_length > 1) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: pattern, format and lengths cannot be combined", path);
    }
    if (pattern != nullptr) {
      return compile_pattern(pattern->get<std::string>(), true, path + "/pattern");
    }
    if (format != nullptr) {
      const auto known = format_pattern(format->get<std::string>());
      if (known) return compile_pattern(std::string(*known), false, path + "/format");
      return make_error(ErrorCode::kUnsupported, "{}/format: {} is not supported", path,
                        format->dump());
    }
    US_ASSIGN(const std::optional<uint32_t> min, count_member(schema, "minLength", path));
    US_ASSIGN(const std::optional<uint32_t> max, count_member(schema, "maxLength", path));
    if (min.value_or(0) > max.value_or(kUnbounded)) return nothing();
    if (bare_ == nullptr) return text_.string(min.value_or(0), max.value_or(kUnbounded));
    if (!has_length && bare_->not_first.empty()) return end_->any_text;
    if (std::max(min.value_or(0), max.value_or(0)) > kMaxBareLength) {
      return make_error(ErrorCode::kOutOfMemory,
                        "{}: a string without quotes can be kept to lengths of up to {}", path,
                        kMaxBareLength);
    }
    return add_string(path, bare_text(min.value_or(0), max.value_or(kUnbounded)), bare_->not_first);
  }

  // In a bounded text every character has states of its own; those of several bytes are a rule for
  // all.
  ExprId bare_text(uint32_t min, uint32_t max) {
    const CodePoints ascii = {{0, 0x7F}};
    if (beyond_ascii_ == kNoExpr) {
      beyond_ascii_ = add_rule("character beyond ASCII", builder_.characters(ascii.complement()));
    }
    return builder_.repeat(builder_.choice({builder_.characters(ascii), beyond_ascii_}), min, max);
  }

  Result<ExprId> compile_pattern(const std::string& pattern, bool is_search,
                                 const std::string& path) {
    const auto known = patterns_.find({pattern, is_search});
    if (bare_ == nullptr && known != patterns_.end()) return known->second;
    RegexOptions options;
    options.name = path;
    options.is_search = is_search;
    if (bare_ == nullptr) {
      options.spell = [this](const CodePoints& set) { return text_.spell(set); };
    }
    US_ASSIGN(const ExprId content, add_regex(pattern, options, &builder_));
    if (bare_ != nullptr) return add_string(path, content, bare_->not_first);
    return patterns_[{pattern, is_search}] = add_string(path, content, {});
  }

  Result<ExprId> compile_array(const Json& schema, const std::string& path, uint32_t depth) {
    US_ASSIGN(const std::optional<uint32_t> min, count_member(schema, "minItems", path));
    US_ASSIGN(const std::optional<uint32_t> max, count_member(schema, "maxItems", path));
    if (min.value_or(0) > max.value_or(kUnbounded)) return nothing();
    ListExpr list;
    list.is_prefix = true;
    const Json* prefix = find_member(schema, "prefixItems");
    const auto num_prefix = static_cast<uint32_t>(prefix == nullptr ? 0 : prefix->size());
    for (uint32_t i = 0; i < std::min(num_prefix, max.value_or(kUnbounded)); ++i) {
      US_ASSIGN(const ExprId element,
                compile((*prefix)[i], fmt::format("{}/prefixItems/{}", path, i), depth + 1));
      list.elements.push_back({element, i < min.value_or(0)});
    }
    // As with properties, a schema that says what comes first says all, unless it has "items".
    const Json* items = find_member(schema, "items");
    const bool has_tail = items != nullptr ? *items != false : prefix == nullptr;
    list.tail_min = min.value_or(0) - std::min(min.value_or(0), num_prefix);
    list.tail_max = !max ? kUnbounded : *max - std::min(*max, num_prefix);
    if (!has_tail && list.tail_min > 0) return nothing();
    if (has_tail && list.tail_max > 0) {
      US_ASSIGN(list.tail, items == nullptr ? Result<ExprId>(text_.any_value())
                                            : compile(*items, path + "/items", depth + 1));
    }
    return add_rule(path, text_.brackets("[", std::move(list), "]"));
  }

  Result<ExprId> compile_object(const Json& schema, const std::string& path, uint32_t depth) {
    const Json* additional = find_member(schema, "additionalProperties");
    US_ASSIGN(const Json properties, properties_of(schema, path));
    const std::vector<std::string> required = required_of(schema);
    ListExpr list;
    std::vector<std::string> names;
    for (const auto& [name, value] : properties.items()) {
      const std::string place = fmt::format("{}/properties/{}", path, pointer_token(name));
      if (name.size() > kMaxKeyBytes) {
        return make_error(ErrorCode::kOutOfMemory, "{}/properties: a name of {} bytes; at most {}",
                          path, name.size(), kMaxKeyBytes);
      }
      US_ASSIGN(const ExprId compiled, compile(value, place, depth + 1));
      const bool is_required = std::binary_search(required.begin(), required.end(), name);
      list.elements.push_back(
          {text_.member(builder_.bytes(Json(name).dump()), compiled), is_required});
      names.push_back(name);
    }
    if (additional != nullptr ? *additional != false : !schema.contains("properties")) {
      US_ASSIGN(const ExprId value,
                additional == nullptr
                    ? Result<ExprId>(text_.any_value())
                    : compile(*additional, path + "/additionalProperties", depth + 1));
      list.tail = text_.member(names.empty() ? text_.string() : text_.key_except(names), value);
    }
    return add_rule(path, text_.brackets("{", std::move(list), "}"));
  }

  // "properties", and what "required" names besides with the schema of additional ones.
  Result<Json> properties_of(const Json& schema, const std::string& path) {
    const Json* additional = find_member(schema, "additionalProperties");
    Json properties = schema.value("properties", Json::object());
    const Json required = schema.value("required", Json::array());
    std::set<std::string> known;
    for (const auto& item : properties.items()) known.insert(item.key());
    const size_t num_values =
        additional == nullptr ? 0 : count_values(*additional).value_or(kMaxMergedValues);
    for (const Json& name : required) {
      if (!name.is_string()) {
        return make_error(ErrorCode::kInvalidArgument, "{}/required: expected strings", path);
      }
      if (!known.insert(name.get<std::string>()).second) continue;
      const bool is_closed =
          additional != nullptr ? *additional == false : schema.contains("properties");
      if (is_closed) {
        return make_error(ErrorCode::kInvalidArgument,
                          "{}/required: {} is none of the properties, and no others are allowed",
                          path, name.dump());
      }
      num_merged_values_ += num_values;
      if (num_merged_values_ > kMaxMergedValues) {
        return make_error(ErrorCode::kOutOfMemory, "{}/required: combining schemas takes too much",
                          path);
      }
      properties.get_ref<Json::object_t&>().emplace_back(
          name.get<std::string>(), additional == nullptr ? Json(true) : *additional);
    }
    return properties;
  }

  // Sorted.
  static std::vector<std::string> required_of(const Json& schema) {
    std::vector<std::string> names;
    if (const Json* required = find_member(schema, "required")) {
      for (const Json& name : *required) names.push_back(name.get<std::string>());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  const Json& root_;
  GrammarBuilder& builder_;
  JsonText own_text_;
  JsonText& text_;
  std::map<std::string, RuleId> references_;
  std::deque<std::pair<std::string, RuleId>> pending_;  // rules without a body
  std::map<std::pair<std::string, bool>, ExprId> patterns_;
  ExprId beyond_ascii_ = kNoExpr;
  const BareEnd* end_ = nullptr;
  const BareValue* bare_ = nullptr;  // the value whose own type, not what is in it, is compiled
  size_t num_schemas_ = 0;
  size_t num_merged_values_ = 0;
};

}  // namespace

Result<std::vector<RuleId>> add_json_schema(const Json& schema,
                                            std::span<const std::string> references,
                                            const JsonSchemaOptions& options,
                                            GrammarBuilder* builder) {
  return SchemaCompiler(schema, options, builder).run(references);
}

ExprId add_any_text(const std::string& separator, const std::string& word,
                    GrammarBuilder* builder) {
  const RuleId rule = builder->add_rule("text before " + word);
  const ExprId any = builder->repeat(builder->characters(CodePoints::all()), 0, kUnbounded);
  builder->set_body(rule, builder->sequence({any, builder->bytes(separator)}));
  builder->set_end(rule, {word});
  return builder->call(rule);
}

Result<std::vector<ExprId>> add_bare_values(const Json& schema, std::span<const BareValue> values,
                                            const BareEnd& end, const JsonSchemaOptions& options,
                                            GrammarBuilder* builder) {
  return SchemaCompiler(schema, options, builder).run_bare(values, end);
}

Result<Grammar> parse_json_schema(const Json& schema, const JsonSchemaOptions& options) {
  GrammarBuilder builder;
  const std::string whole = "#";
  US_ASSIGN(const std::vector<RuleId> rules,
            add_json_schema(schema, {&whole, 1}, options, &builder));
  return builder.build(rules.front());
}

Result<Grammar> json_object_grammar(const JsonSchemaOptions& options) {
  return parse_json_schema(any_object_schema(), options);
}

}  // namespace ultraspeed::grammar
