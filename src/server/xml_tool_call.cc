// Calls as <function=NAME><parameter=KEY>VALUE</parameter>...</function>, white space between tags.
// A value ends at the first "</parameter>" that another tag follows, so that a file which contains
// that word survives being written. A missing "</function>" is forgiven.
#include <array>
#include <utility>

#include "server/json_text.h"
#include "server/tag_matcher.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {
namespace {

constexpr std::array<std::string_view, 1> kFirstTags = {"<function="};
constexpr std::array<std::string_view, 3> kNextTags = {"<parameter=", "</function>",
                                                       kToolCallClose};
constexpr std::string_view kValueClose = "</parameter>";
constexpr size_t kMaxNameBytes = 256;

class XmlToolCallParser final : public ToolCallParser {
 public:
  XmlToolCallParser(bool has_value_lines, const ToolSchemas& tools)
      : has_value_lines_(has_value_lines), tools_(tools) {}

  State push(char c, CallOutput* out) override {
    switch (place_) {
      case Place::kFunctionTag:
        return push_function_tag(c);
      case Place::kName:
        return push_name(c);
      case Place::kFirstTag:
        return push_first_tag(c, out);
      case Place::kKey:
        push_key(c, out);
        break;
      case Place::kValue:
        push_value(c, out);
        break;
      case Place::kAfterValue:
        return push_after_value(c, out);
    }
    return State::kOpen;
  }

  bool finish(bool was_cut_off, CallOutput* out) override {
    if (place_ != Place::kAfterValue) return false;
    end_value(out);
    if (!was_cut_off) out->arguments += '}';
    return !was_cut_off;
  }

 private:
  enum class Place { kFunctionTag, kName, kFirstTag, kKey, kValue, kAfterValue };

  State push_function_tag(char c) {
    const TagMatcher::State state = function_tag_.push(c);
    if (state == TagMatcher::State::kFailed) return State::kBroken;
    if (state == TagMatcher::State::kMatched) place_ = Place::kName;
    return State::kOpen;
  }

  State push_name(char c) {
    if (c == '>') {
      if (!tools_.has_tool(name_)) return State::kBroken;
      place_ = Place::kFirstTag;
    } else if (c == '<' || is_space(c) || name_.size() == kMaxNameBytes) {
      return State::kBroken;
    } else {
      name_ += c;
    }
    return State::kOpen;
  }

  // Only here the call begins for the client: what has begun cannot be taken back.
  State push_first_tag(char c, CallOutput* out) {
    const TagMatcher::State state = next_tag_.push(c);
    if (state == TagMatcher::State::kFailed) return State::kBroken;
    if (state == TagMatcher::State::kOpen) return State::kOpen;
    out->name = name_;
    out->arguments += '{';
    return take_next_tag(out);
  }

  State take_next_tag(CallOutput* out) {
    const size_t tag = next_tag_.index();
    next_tag_.clear();
    if (tag == 0) {
      key_.clear();
      place_ = Place::kKey;
      return State::kOpen;
    }
    out->arguments += '}';
    return kNextTags[tag] == kToolCallClose ? State::kClosed : State::kEnded;
  }

  void push_key(char c, CallOutput* out) {
    if (c != '>') {
      key_ += c;
      return;
    }
    if (std::exchange(has_parameters_, true)) out->arguments += ',';
    append_json_string(out->arguments, key_);
    out->arguments += ':';
    types_ = tools_.parameter_types(name_, key_);
    if (types_ == kString) out->arguments += '"';
    value_.clear();
    is_first_of_value_ = true;
    place_ = Place::kValue;
  }

  // Of kValueClose only the first character is a '<', so that a mismatch can restart there alone.
  void push_value(char c, CallOutput* out) {
    const bool is_first = std::exchange(is_first_of_value_, false);
    if (is_first && has_value_lines_ && c == '\n') return;
    if (c == kValueClose[matched_]) {
      if (++matched_ == kValueClose.size()) place_ = Place::kAfterValue;
      return;
    }
    give_back_close(out);
    if (c == '<') {
      matched_ = 1;
    } else if (has_value_lines_ && c == '\n') {
      has_line_end_ = true;
    } else {
      add_to_value({&c, 1}, out);
    }
  }

  State push_after_value(char c, CallOutput* out) {
    const TagMatcher::State state = next_tag_.push(c);
    if (state == TagMatcher::State::kOpen) return State::kOpen;
    if (state == TagMatcher::State::kMatched) {
      end_value(out);
      return take_next_tag(out);
    }
    const std::string rest = next_tag_.text();
    next_tag_.clear();
    give_back_close(out);
    place_ = Place::kValue;
    for (const char again : rest) push_value(again, out);
    return State::kOpen;
  }

  // What was held back as the value's end belongs to the value.
  void give_back_close(CallOutput* out) {
    if (std::exchange(has_line_end_, false)) add_to_value("\n", out);
    add_to_value(kValueClose.substr(0, std::exchange(matched_, 0)), out);
  }

  void add_to_value(std::string_view text, CallOutput* out) {
    if (types_ == kString) {
      append_json_escaped(out->arguments, text);
    } else {
      value_ += text;
    }
  }

  void end_value(CallOutput* out) {
    matched_ = 0;
    has_line_end_ = false;
    if (types_ == kString) {
      out->arguments += '"';
    } else {
      append_parameter_value(out->arguments, value_, types_);
    }
  }

  const bool has_value_lines_;
  const ToolSchemas& tools_;
  Place place_ = Place::kFunctionTag;
  TagMatcher function_tag_{kFirstTags};
  TagMatcher next_tag_{kNextTags};
  std::string name_;
  bool has_parameters_ = false;
  std::string key_;
  JsonTypes types_ = kAnyType;  // of the parameter
  std::string value_;           // so far, unless it streams as a string
  bool is_first_of_value_ = false;
  bool has_line_end_ = false;  // held back before kValueClose
  size_t matched_ = 0;         // bytes of kValueClose that were read
};

}  // namespace

std::unique_ptr<ToolCallParser> make_xml_tool_call_parser(bool has_value_lines,
                                                          const ToolSchemas& tools) {
  return std::make_unique<XmlToolCallParser>(has_value_lines, tools);
}

}  // namespace ultraspeed::server
