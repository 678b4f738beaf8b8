// Checks and normal form of messages.
#include "text/chat_template_messages.h"

#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::text {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxArgumentDepth = 200;
// ordered_json inserts in linear time, so that an object's keys must be bounded.
constexpr size_t kMaxArgumentKeys = 4096;

tl::unexpected<Error> malformed(std::string_view place, std::string_view expected,
                                const Json& found) {
  return make_error(ErrorCode::kInvalidArgument, "{}: expected {}, got {}", place, expected,
                    found.type_name());
}

// Stops the parser at the first object or nesting over the limits.
class LimitCheck : public nlohmann::json_sax<Json> {
 public:
  bool is_over_limit() const { return is_over_limit_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool key(string_t&) override { return admit(++key_counts_.back() <= kMaxArgumentKeys); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool open() {
    key_counts_.push_back(0);
    return admit(key_counts_.size() <= kMaxArgumentDepth);
  }
  bool close() {
    key_counts_.pop_back();
    return true;
  }
  bool admit(bool within) {
    is_over_limit_ |= !within;
    return within;
  }

  std::vector<size_t> key_counts_;
  bool is_over_limit_ = false;
};

// Parses the arguments of a tool call in place.
Status prepare_arguments(const std::string& place, Json& arguments) {
  if (arguments.is_null()) {
    arguments = Json::object();
    return {};
  }
  if (!arguments.is_string()) return {};
  const auto& text = arguments.get_ref<const std::string&>();
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    arguments = Json::object();
    return {};
  }
  LimitCheck check;
  if (!Json::sax_parse(text, &check)) {
    if (!check.is_over_limit()) return {};
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: more than {} keys in an object or {} nested values", place,
                      kMaxArgumentKeys, kMaxArgumentDepth);
  }
  Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object()) arguments = std::move(parsed);
  return {};
}

Status prepare_tool_calls(const std::string& place, Json& message) {
  const auto found = message.find("tool_calls");
  if (found == message.end()) return {};
  if (found->is_null() || (found->is_array() && found->empty())) {
    message.erase("tool_calls");
    return {};
  }
  if (!found->is_array()) return malformed(place + ".tool_calls", "an array", *found);
  for (size_t i = 0; i < found->size(); ++i) {
    const std::string call_place = fmt::format("{}.tool_calls[{}]", place, i);
    Json* call = &(*found)[i];
    std::string function_place = call_place;
    if (!call->is_object()) return malformed(call_place, "an object", *call);
    if (call->contains("function")) {
      call = &(*call)["function"];
      function_place += ".function";
      if (!call->is_object()) return malformed(function_place, "an object", *call);
    }
    if (!call->contains("name") || !(*call)["name"].is_string()) {
      return make_error(ErrorCode::kInvalidArgument, "{}.name: expected a string", function_place);
    }
    if (!call->contains("arguments")) continue;
    US_TRY(prepare_arguments(function_place + ".arguments", (*call)["arguments"]));
  }
  return {};
}

// The text of a part: {"type": "text", "text": ...} or a bare string.
Result<std::string> part_text(const std::string& place, const Json& part) {
  if (part.is_string()) return part.get<std::string>();
  if (!part.is_object()) return malformed(place, "a text part", part);
  const auto type = part.find("type");
  if (type != part.end() && type->is_string() && *type != "text") {
    return make_error(ErrorCode::kUnsupported, "{}: only text parts are supported, got type '{}'",
                      place, type->get<std::string>());
  }
  const auto text = part.find("text");
  if (text == part.end() || !text->is_string()) {
    return make_error(ErrorCode::kInvalidArgument, "{}.text: expected a string", place);
  }
  return text->get<std::string>();
}

Status prepare_content(const std::string& place, Json& message) {
  const auto found = message.find("content");
  const bool is_assistant = message["role"] == "assistant";
  if (found == message.end() || found->is_null()) {
    if (is_assistant) return {};
    return make_error(ErrorCode::kInvalidArgument,
                      "{}.content: expected a string or a list of text parts, got {}", place,
                      found == message.end() ? "nothing" : "null");
  }
  if (found->is_string()) return {};
  if (!found->is_array()) {
    return malformed(place + ".content", "a string or a list of text parts", *found);
  }
  std::string text;
  for (size_t i = 0; i < found->size(); ++i) {
    US_ASSIGN(const std::string part,
              part_text(fmt::format("{}.content[{}]", place, i), (*found)[i]));
    text += part;
  }
  *found = std::move(text);
  return {};
}

void prepare_reasoning(Json& message) {
  const auto alias = message.find("reasoning");
  if (alias == message.end() || !alias->is_string()) return;
  const auto found = message.find("reasoning_content");
  if (found != message.end() && found->is_string()) return;
  const std::string reasoning = alias->get<std::string>();
  message["reasoning_content"] = reasoning;
}

}  // namespace

Result<Json> prepare_messages(Json messages) {
  if (!messages.is_array()) return malformed("messages", "an array", messages);
  if (messages.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "messages: expected at least one message");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    Json& message = messages[i];
    const std::string place = fmt::format("messages[{}]", i);
    if (!message.is_object()) return malformed(place, "an object", message);
    if (!message.contains("role") || !message["role"].is_string()) {
      return make_error(ErrorCode::kInvalidArgument, "{}.role: expected a string", place);
    }
    US_TRY(prepare_content(place, message));
    US_TRY(prepare_tool_calls(place, message));
    prepare_reasoning(message);
  }
  return messages;
}

std::optional<std::string> find_unparsed_arguments(const Json& prepared_messages) {
  for (size_t i = 0; i < prepared_messages.size(); ++i) {
    const auto calls = prepared_messages[i].find("tool_calls");
    if (calls == prepared_messages[i].end()) continue;
    for (size_t j = 0; j < calls->size(); ++j) {
      const Json& call = (*calls)[j];
      const bool is_nested = call.contains("function");
      const Json& function = is_nested ? call["function"] : call;
      const auto arguments = function.find("arguments");
      if (arguments == function.end() || !arguments->is_string()) continue;
      return fmt::format("messages[{}].tool_calls[{}].{}arguments", i, j,
                         is_nested ? "function." : "");
    }
  }
  return std::nullopt;
}

}  // namespace ultraspeed::text
