#include "server/call_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "grammar/json_schema.h"
#include "grammar/json_schema_keywords.h"
#include "grammar/one_of.h"
#include "server/tool_schemas.h"

namespace ultraspeed::server {
namespace {

using grammar::CodePoints;
using grammar::ExprId;
using grammar::GrammarBuilder;
using grammar::kNoExpr;
using grammar::kUnbounded;
using grammar::RuleId;

constexpr std::string_view kValueEnd = "</parameter>";
constexpr uint32_t kMaxKeyCharacters = 64;  // of parameters that a schema does not name

const Json* member_of(const Json& json, std::string_view name) {
  const auto member = json.find(name);
  return member == json.end() ? nullptr : &*member;
}

// What the schema says of this parameter but for its type is left out.
Json type_alone(const Json& schema) {
  const auto type = schema.is_object() ? schema.find("type") : schema.end();
  return type == schema.end() || !schema.is_object() ? Json(true) : Json{{"type", *type}};
}

Json types_of(const Json& parameters) {
  Json types = grammar::any_object_schema();
  if (const Json* properties = member_of(parameters, "properties")) {
    types["properties"] = Json::object();
    for (const auto& [name, schema] : properties->items()) {
      types["properties"][name] = type_alone(schema);
    }
  }
  if (const Json* required = member_of(parameters, "required")) types["required"] = *required;
  return types;
}

// The strings of an enumeration of nothing else that can be written as they are; else none.
std::vector<std::string> plain_choices(const Json& schema) {
  std::vector<std::string> choices;
  const Json* values = schema.is_object() ? member_of(schema, "enum") : nullptr;
  if (values == nullptr || !values->is_array()) return choices;
  for (const Json& value : *values) {
    if (!value.is_string()) return {};
    choices.push_back(value.get<std::string>());
    if (choices.back().find(kValueEnd) != std::string::npos) return {};
  }
  return choices;
}

class CallWriter {
 public:
  CallWriter(const CallChoice& calls, bool types_only, GrammarBuilder* builder)
      : calls_(calls), schemas_(calls.tools), types_only_(types_only), builder_(*builder) {}

  Result<ExprId> run() {
    std::vector<ExprId> tools;
    for (const Json& tool : calls_.tools) {
      US_ASSIGN(const ExprId call, write_call(tool["function"]));
      tools.push_back(call);
    }
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
    if (types_only_) parameters = types_of(parameters);
    const auto call = calls_.syntax == ToolSyntax::kJson ? write_json(name, parameters)
                                                         : write_xml(name, parameters);
    if (call) return call;
    return make_error(call.error().code, "the parameters of '{}': {}", name, call.error().message);
  }

  Result<ExprId> write_json(const std::string& name, Json parameters) {
    if (!parameters.contains("type")) parameters["type"] = "object";
    US_ASSIGN(const std::vector<RuleId> rules,
              grammar::add_json_schema(parameters, std::vector<std::string>{"#"}, {}, &builder_));
    return builder_.sequence({bytes(R"({"name": )"), bytes(Json(name).dump()),
                              bytes(R"(, "arguments": )"), builder_.call(rules.front()),
                              bytes("}")});
  }

  Result<ExprId> write_xml(const std::string& name, const Json& parameters) {
    std::vector<ExprId> parts = {bytes("<function="), bytes(name), bytes(">\n")};
    const Json* properties = member_of(parameters, "properties");
    if (properties == nullptr) {
      parts.push_back(builder_.repeat(any_parameter(), 0, kUnbounded));
    } else {
      US_TRY(add_parameters(name, parameters, *properties, &parts));
    }
    parts.push_back(bytes("</function>"));
    return builder_.sequence(std::move(parts));
  }

  Status add_parameters(const std::string& tool, const Json& schema, const Json& properties,
                        std::vector<ExprId>* parts) {
    if (!properties.is_object()) {
      return make_error(ErrorCode::kInvalidArgument, "#/properties: expected an object");
    }
    std::vector<std::string> names;
    std::vector<std::string> references;  // of those whose values are JSON
    for (const auto& [name, value] : properties.items()) {
      names.push_back(name);
      if (is_json(tool, name)) references.push_back("#/properties/" + grammar::pointer_token(name));
    }
    US_ASSIGN(const std::vector<RuleId> rules,
              grammar::add_json_schema(schema, references, {}, &builder_));
    auto next_rule = rules.begin();
    for (const std::string& name : names) {
      const ExprId value = is_json(tool, name)
                               ? builder_.sequence({builder_.call(*next_rule++), value_end()})
                               : plain_value(properties[name]);
      const ExprId parameter = write_parameter(bytes(name), value);
      const Json* required = member_of(schema, "required");
      const bool is_required =
          required != nullptr && required->is_array() &&
          std::find(required->begin(), required->end(), name) != required->end();
      parts->push_back(is_required ? parameter : builder_.repeat(parameter, 0, 1));
      US_TRY(builder_.check_size());
    }
    return {};
  }

  // Where strings may come, a value is written as it is.
  bool is_json(const std::string& tool, const std::string& parameter) const {
    const JsonTypes types = schemas_.parameter_types(tool, parameter);
    return types != kAnyType && (types & kString) == 0;
  }

  ExprId write_parameter(ExprId key, ExprId value_and_end) {
    const std::string_view line = calls_.syntax == ToolSyntax::kXmlLines ? ">\n" : ">";
    return builder_.sequence({bytes("<parameter="), key, bytes(line), value_and_end, bytes("\n")});
  }

  ExprId any_parameter() {
    const ExprId character = builder_.characters(CodePoints({{'!', '='}, {'?', '~'}}));
    return rule("parameter",
                write_parameter(builder_.repeat(character, 1, kMaxKeyCharacters), text_and_end()));
  }

  ExprId plain_value(const Json& schema) {
    const std::vector<std::string> choices = plain_choices(schema);
    if (choices.empty()) return text_and_end();
    std::vector<ExprId> texts;
    for (const std::string& text : choices) {
      texts.push_back(text.empty() ? builder_.sequence({}) : bytes(text));
    }
    return builder_.sequence({builder_.choice(std::move(texts)), value_end()});
  }

  ExprId value_end() {
    return bytes(calls_.syntax == ToolSyntax::kXmlLines ? "\n</parameter>" : kValueEnd);
  }

  // Any text up to the first kValueEnd. '<' occurs in it only at its begin: a mismatch can restart
  // there alone. So behind i of its bytes, in rule i, come i + 1 of them, 1 or 0.
  ExprId text_and_end() {
    if (text_and_end_ != kNoExpr) return text_and_end_;
    std::vector<RuleId> rules;
    for (size_t i = 0; i < kValueEnd.size(); ++i) {
      rules.push_back(builder_.add_rule(fmt::format("text before {}", kValueEnd.substr(i))));
    }
    const ExprId other = builder_.characters(CodePoints({{'<', '<'}}).complement());
    const ExprId begin = builder_.sequence({bytes("<"), builder_.call(rules[1])});
    builder_.set_body(rules[0], builder_.sequence({builder_.repeat(other, 0, kUnbounded), begin}));
    for (size_t i = 1; i < kValueEnd.size(); ++i) {
      const auto c = static_cast<char32_t>(kValueEnd[i]);
      std::vector<ExprId> match = {bytes(kValueEnd.substr(i, 1))};
      if (i + 1 < kValueEnd.size()) match.push_back(builder_.call(rules[i + 1]));
      const ExprId mismatch = builder_.characters(CodePoints({{'<', '<'}, {c, c}}).complement());
      builder_.set_body(rules[i],
                        builder_.choice({builder_.sequence(std::move(match)), begin,
                                         builder_.sequence({mismatch, builder_.call(rules[0])})}));
    }
    return text_and_end_ = builder_.call(rules[0]);
  }

  const CallChoice& calls_;
  const ToolSchemas schemas_;
  const bool types_only_;
  GrammarBuilder& builder_;
  ExprId text_and_end_ = kNoExpr;
};

}  // namespace

Result<ExprId> add_calls(const CallChoice& calls, bool types_only, GrammarBuilder* builder) {
  US_CHECK(calls.syntax != ToolSyntax::kNone, "calls without a syntax");
  return CallWriter(calls, types_only, builder).run();
}

}  // namespace ultraspeed::server
