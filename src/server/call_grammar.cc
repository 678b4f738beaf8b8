#include "server/call_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "grammar/json_schema.h"
#include "grammar/json_schema_keywords.h"
#include "server/json_text.h"
#include "server/tool_schemas.h"

namespace ultraspeed::server {
namespace {

using grammar::CodePoints;
using grammar::ExprId;
using grammar::GrammarBuilder;
using grammar::kUnbounded;
using grammar::RuleId;

constexpr std::string_view kValueEnd = "</parameter>";
constexpr uint32_t kMaxKeyCharacters = 64;  // of parameters that a schema does not name

const Json* member_of(const Json& json, std::string_view name) {
  const auto member = json.find(name);
  return member == json.end() ? nullptr : &*member;
}

// What the schema says of its parameters but for their names and types is left out.
Json types_alone(const Json& parameters) {
  Json types = grammar::any_object_schema();
  const Json* properties = member_of(parameters, "properties");
  if (properties == nullptr || !properties->is_object()) return types;
  types["properties"] = Json::object();
  for (const auto& [name, schema] : properties->items()) {
    const Json names = type_names(types_of_schema(schema, parameters));
    types["properties"][name] = names.empty() ? Json(true) : Json{{"type", names}};
  }
  const Json* required = member_of(parameters, "required");
  if (required == nullptr || !required->is_array()) return types;
  for (const Json& name : *required) {
    const bool is_known = name.is_string() && properties->contains(name.get<std::string>());
    if (is_known) types["required"].push_back(name);
  }
  return types;
}

// What a value of these types, read as JSON or as Python's name for it, can begin with.
std::string first_characters(JsonTypes types) {
  std::string characters;
  if ((types & (kInteger | kNumber)) != 0) characters += "-0123456789";
  if ((types & kBoolean) != 0) characters += "tfTF";
  if ((types & kNull) != 0) characters += "nN";
  if ((types & kObject) != 0) characters += '{';
  if ((types & kArray) != 0) characters += '[';
  return characters;
}

// The types of which the schema allows every value.
JsonTypes free_types(const Json& schema) {
  if (!schema.is_object()) return kAnyType;
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (!schema.contains(keyword)) continue;
    if (!schema[keyword].is_array() || grammar::restricts_besides(schema, {keyword})) return {};
    JsonTypes types = {};
    for (const Json& choice : schema[keyword]) types |= free_types(choice);
    return types;
  }
  const bool is_free = !grammar::restricts_besides(
      schema, {"type", "nullable", "minLength", "maxLength", "pattern", "format"});
  const JsonTypes types = is_free ? types_of_schema(schema, schema) : JsonTypes{};
  return (types & kNumber) != 0 ? types | kInteger : types;
}

// Whether the text, as a parameter's value, is read as this very string.
bool is_read_back(const std::string& text, JsonTypes types) {
  std::string read, written;
  append_parameter_value(read, text, types);
  append_json_string(written, text);
  return read == written;
}

bool is_strict(const Json& function) {
  const Json* strict = member_of(function, "strict");
  return strict != nullptr && *strict == true;
}

class CallWriter {
 public:
  CallWriter(const CallChoice& calls, bool types_only, GrammarBuilder* builder)
      : calls_(calls),
        types_only_(types_only),
        builder_(*builder),
        text_(grammar::JsonSpacing::kFlexible, builder) {
    if (calls.syntax == ToolSyntax::kXmlLines) end_.separator = "\n";
    end_.word = kValueEnd;
    end_.any_text = grammar::add_any_text(end_.separator, end_.word, builder);
  }

  Result<ExprId> run() {
    std::vector<ExprId> tools;
    for (const Json& tool : calls_.tools) {
      US_ASSIGN(const ExprId call, write_call(tool["function"]));
      tools.push_back(call);
    }
    if (has_one_call(calls_.syntax)) return rule("call", builder_.choice(std::move(tools)));
    const ExprId call = rule("call", builder_.sequence({bytes(kToolCallOpen), bytes("\n"),
                                                        builder_.choice(std::move(tools)),
                                                        bytes("\n"), bytes(kToolCallClose)}));
    if (calls_.is_single) return call;
    const ExprId next = builder_.sequence({bytes("\n"), call});
    return builder_.sequence({call, builder_.repeat(next, 0, kUnbounded)});
  }

 private:
  ExprId bytes(std::string_view text) { return builder_.bytes(std::string(text)); }
  ExprId rule(std::string name, ExprId body) {
    const RuleId rule = builder_.add_rule(std::move(name));
    builder_.set_body(rule, body);
    return builder_.call(rule);
  }

  Result<ExprId> write_call(const Json& function) {
    US_TRY(builder_.check_size());
    const auto name = function["name"].get<std::string>();
    const Json* given = member_of(function, "parameters");
    Json parameters = given != nullptr && given->is_object() ? *given : Json::object();
    auto call = write_arguments(name, types_only_ ? types_alone(parameters) : parameters);
    const bool may_reduce = !types_only_ && !is_strict(function);
    if (!call && may_reduce) call = write_arguments(name, types_alone(parameters));
    if (call) return call;
    return make_error(call.error().code, "the parameters of '{}': {}", name, call.error().message);
  }

  Result<ExprId> write_arguments(const std::string& name, const Json& parameters) {
    const bool is_xml = calls_.syntax == ToolSyntax::kXml || calls_.syntax == ToolSyntax::kXmlLines;
    return is_xml ? write_xml(name, parameters) : write_json(name, parameters);
  }

  // What stands before a call's arguments and behind them.
  std::pair<std::string, std::string_view> json_frame(const std::string& name) const {
    if (calls_.syntax == ToolSyntax::kHarmony) {
      return {fmt::format("{}commentary to=functions.{} {}json{}", kHarmonyChannel, name,
                          kHarmonyConstrain, kHarmonyMessage),
              ""};
    }
    const bool is_bare = calls_.syntax == ToolSyntax::kBareJson;
    return {fmt::format(R"({{"name": {}, "{}": )", Json(name).dump(),
                        is_bare ? "parameters" : "arguments"),
            "}"};
  }

  Result<ExprId> write_json(const std::string& name, Json parameters) {
    if (!parameters.contains("type")) parameters["type"] = "object";
    US_ASSIGN(const std::vector<RuleId> rules,
              grammar::add_json_schema(parameters, std::vector<std::string>{"#"}, {.text = &text_},
                                       &builder_));
    const auto [begin, end] = json_frame(name);
    return builder_.sequence({bytes(begin), builder_.call(rules.front()), bytes(end)});
  }

  Result<ExprId> write_xml(const std::string& name, const Json& parameters) {
    US_TRY(check_parameters(parameters));
    std::vector<ExprId> parts = {bytes("<function="), bytes(name), bytes(">\n")};
    const Json* properties = member_of(parameters, "properties");
    const Json* additional = member_of(parameters, "additionalProperties");
    if (properties != nullptr) {
      US_TRY(add_parameters(parameters, *properties, &parts));
    } else if (additional == nullptr || *additional != false) {
      parts.push_back(builder_.repeat(any_parameter(), 0, kUnbounded));
    }
    parts.push_back(bytes("</function>"));
    return builder_.sequence(std::move(parts));
  }

  // That they are an object whose parameters can be written one by one.
  static Status check_parameters(const Json& schema) {
    US_TRY(grammar::check_keywords(schema, "#"));
    const Json* properties = member_of(schema, "properties");
    const Json* additional = member_of(schema, "additionalProperties");
    const bool is_open = additional == nullptr || additional->is_boolean() || additional->empty();
    if (schema.value("type", Json("object")) != "object" ||
        grammar::restricts_besides(schema,
                                   {"type", "properties", "required", "additionalProperties"}) ||
        (properties == nullptr && !is_open)) {
      return make_error(ErrorCode::kUnsupported,
                        "#: this model writes the properties of one object, of which 'type', "
                        "'properties', 'required' and 'additionalProperties' can be kept to");
    }
    for (const Json& name : schema.value("required", Json::array())) {
      const bool is_known = properties != nullptr && name.is_string() &&
                            properties->contains(name.get<std::string>());
      if (!is_known) {
        return make_error(ErrorCode::kUnsupported, "#/required: {} is none of the properties",
                          name.dump());
      }
    }
    return {};
  }

  Status add_parameters(const Json& schema, const Json& properties, std::vector<ExprId>* parts) {
    std::vector<grammar::BareValue> values;
    for (const auto& [name, value] : properties.items()) {
      US_ASSIGN(const JsonTypes types, types_of_parameter(schema, name, value));
      const JsonTypes bound = types & ~free_types(value) & ~kString;
      values.push_back({"#/properties/" + grammar::pointer_token(name),
                        (types & kString) != 0 ? first_characters(bound) : std::string(),
                        [types](const std::string& text) { return is_read_back(text, types); }});
    }
    US_ASSIGN(const std::vector<ExprId> texts,
              grammar::add_bare_values(schema, values, end_, {.text = &text_}, &builder_));
    const Json required = schema.value("required", Json::array());
    auto text = texts.begin();
    for (const auto& item : properties.items()) {
      const ExprId parameter = write_parameter(bytes(item.key()), *text++);
      const bool is_required =
          std::find(required.begin(), required.end(), item.key()) != required.end();
      parts->push_back(is_required ? parameter : builder_.repeat(parameter, 0, 1));
      US_TRY(builder_.check_size());
    }
    return {};
  }

  // Errors: kUnsupported where the text of a value does not tell its type.
  static Result<JsonTypes> types_of_parameter(const Json& schema, const std::string& name,
                                              const Json& value) {
    if (name.find_first_of(">\n") != std::string::npos) {
      return make_error(ErrorCode::kUnsupported,
                        "#/properties/{}: this model's calls cannot name a parameter so",
                        grammar::pointer_token(name));
    }
    const JsonTypes types = types_of_schema(value, schema);
    const bool is_free =
        value == true || (value.is_object() && !grammar::restricts_besides(value, {}));
    if (types != kAnyType || is_free) return types;
    return make_error(ErrorCode::kUnsupported,
                      "#/properties/{}: it says of no type, and this model writes strings like "
                      "other values",
                      grammar::pointer_token(name));
  }

  ExprId write_parameter(ExprId key, ExprId value_and_end) {
    const std::string_view line = calls_.syntax == ToolSyntax::kXmlLines ? ">\n" : ">";
    return builder_.sequence({bytes("<parameter="), key, bytes(line), value_and_end, bytes("\n")});
  }

  ExprId any_parameter() {
    const ExprId character = builder_.characters(CodePoints({{'!', '='}, {'?', '~'}}));
    return rule("parameter",
                write_parameter(builder_.repeat(character, 1, kMaxKeyCharacters), end_.any_text));
  }

  const CallChoice& calls_;
  const bool types_only_;
  GrammarBuilder& builder_;
  grammar::JsonText text_;  // of all tools
  grammar::BareEnd end_;
};

}  // namespace

Result<ExprId> add_calls(const CallChoice& calls, bool types_only, GrammarBuilder* builder) {
  US_CHECK(calls.syntax != ToolSyntax::kNone, "calls without a syntax");
  return CallWriter(calls, types_only, builder).run();
}

ExprId add_channels(ExprId text, std::optional<ExprId> calls, GrammarBuilder* builder) {
  const auto bytes = [builder](std::string_view part) { return builder->bytes(std::string(part)); };
  const auto message = [&](std::string_view channel) {
    return bytes(fmt::format("{}{}{}", kHarmonyChannel, channel, kHarmonyMessage));
  };
  const ExprId thought = grammar::add_any_text("", std::string(kHarmonyEnd), builder);
  const ExprId analysis =
      builder->sequence({message("analysis"), thought, bytes(kHarmonyStart), bytes("assistant")});
  ExprId answer = builder->sequence({message("final"), text});
  if (calls) answer = builder->choice({answer, *calls});
  return builder->sequence({builder->repeat(analysis, 0, kUnbounded), answer});
}

}  // namespace ultraspeed::server
