// Calls as {"name": NAME, "arguments": {...}}. Arguments that follow the name stream as they are
// written; a call in another order, or with its arguments as a string of JSON, is read when it is
// complete.
#include <utility>

#include "server/json_text.h"
#include "server/tag_matcher.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {
namespace {

class JsonToolCallParser final : public ToolCallParser {
 public:
  explicit JsonToolCallParser(const ToolSchemas& tools) : tools_(tools) {}

  State push(char c, CallOutput* out) override {
    if (depth_ == 0 && is_space(c)) return State::kOpen;
    if (depth_ == 0 && c != '{') return State::kBroken;
    if (!has_begun_) text_ += c;
    if (is_in_string_) {
      push_in_string(c, out);
      return State::kOpen;
    }
    return push_outside(c, out);
  }

  // Behind the arguments only a bracket can be missing.
  bool finish(bool was_cut_off, CallOutput* /*out*/) override {
    return has_begun_ && !is_in_arguments_ && !was_cut_off && has_valid_arguments();
  }

 private:
  void push_in_string(char c, CallOutput* out) {
    if (is_in_arguments_) add_to_arguments(c, out);
    if (std::exchange(is_escaped_, false)) return;
    is_escaped_ = c == '\\';
    if (c != '"') return;
    is_in_string_ = false;
    if (depth_ == 1 && !has_begun_) take_member_string();
  }

  // Models forget to escape line breaks.
  void add_to_arguments(char c, CallOutput* out) {
    std::string escaped(1, c);
    if (is_in_string_ && static_cast<unsigned char>(c) < 0x20) {
      escaped.clear();
      append_json_escaped(escaped, {&c, 1});
    }
    arguments_ += escaped;
    out->arguments += escaped;
  }

  // At a zero byte accept() takes the text for ended.
  bool has_valid_arguments() const {
    return arguments_.find('\0') == std::string::npos && Json::accept(arguments_);
  }

  // A string at depth 1 has ended: a key, or the name.
  void take_member_string() {
    const Json json = Json::parse(text_.begin() + static_cast<std::ptrdiff_t>(string_begin_),
                                  text_.end(), nullptr, /*allow_exceptions=*/false);
    if (!json.is_string()) return;
    if (is_key_) {
      key_ = json.get<std::string>();
    } else if (key_ == "name") {
      name_ = json.get<std::string>();
    }
  }

  State push_outside(char c, CallOutput* out) {
    if (c == '"') {
      is_in_string_ = true;
      if (!has_begun_) string_begin_ = text_.size() - 1;
    } else if (c == '{' || c == '[') {
      ++depth_;
      if (depth_ == 1) is_key_ = true;
      if (c == '{' && depth_ == 2 && !has_begun_ && arguments_may_begin()) {
        if (!tools_.has_tool(name_)) return State::kBroken;
        has_begun_ = is_in_arguments_ = true;
        out->name = name_;
        text_.clear();
      }
    } else if (c == '}' || c == ']') {
      --depth_;
    } else if (depth_ == 1 && (c == ',' || c == ':')) {
      is_key_ = c == ',';
    }
    if (is_in_arguments_) add_to_arguments(c, out);
    if (depth_ == 1) is_in_arguments_ = false;
    if (depth_ > 0) return State::kOpen;
    if (!has_begun_) return complete(out);
    return has_valid_arguments() ? State::kEnded : State::kMalformed;
  }

  bool arguments_may_begin() const {
    return !is_key_ && !name_.empty() && (key_ == "arguments" || key_ == "parameters");
  }

  // The whole call is in text_.
  State complete(CallOutput* out) {
    const auto call = parse_json_object(text_);
    if (!call) return State::kBroken;
    const auto name = call->find("name");
    if (name == call->end() || !name->is_string()) return State::kBroken;
    if (!tools_.has_tool(name->get_ref<const std::string&>())) return State::kBroken;
    auto arguments = call->find("arguments");
    if (arguments == call->end()) arguments = call->find("parameters");
    std::string json = "{}";
    if (arguments != call->end() && arguments->is_string()) {
      json = arguments->get<std::string>();
      if (!parse_json_object(json)) return State::kBroken;
    } else if (arguments != call->end() && !arguments->is_null()) {
      if (!arguments->is_object()) return State::kBroken;
      json = arguments->dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    out->name = name->get<std::string>();
    out->arguments += json;
    return State::kEnded;
  }

  const ToolSchemas& tools_;
  std::string text_;  // of the call until it has begun
  size_t depth_ = 0;
  bool is_in_string_ = false;
  bool is_escaped_ = false;
  size_t string_begin_ = 0;  // in text_
  bool is_key_ = false;      // at depth 1: a string is a key
  std::string key_;          // the last one at depth 1
  std::string name_;
  bool has_begun_ = false;
  bool is_in_arguments_ = false;
  std::string arguments_;  // that have streamed
};

}  // namespace

std::unique_ptr<ToolCallParser> make_json_tool_call_parser(const ToolSchemas& tools) {
  return std::make_unique<JsonToolCallParser>(tools);
}

}  // namespace ultraspeed::server
