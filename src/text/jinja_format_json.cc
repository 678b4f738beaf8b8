// json.dumps(): the layout, escapes and key conversions of Python's json module.
#include <algorithm>
#include <cmath>

#include "text/jinja_format.h"

namespace ultraspeed::text::jinja {

namespace {

void append_json_escape(char32_t c, std::string& out) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    default:
      break;
  }
  if (c < 0x10000) {
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  } else {
    const auto offset = static_cast<uint32_t>(c) - 0x10000;
    out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset >> 10), 0xDC00 + (offset & 0x3FF));
  }
}

std::string escape_json(std::string_view run, bool ensure_ascii) {
  std::string out;
  out.reserve(run.size());
  for (size_t at = 0; at < run.size(); at += char_bytes(run, at)) {
    const char32_t c = char_at(run, at);
    if (c < 0x20 || c == '"' || c == '\\' || (ensure_ascii && c > 0x7E)) {
      append_json_escape(c, out);
    } else {
      out += run.substr(at, char_bytes(run, at));
    }
  }
  return out;
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return format_float(value);
}

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style), out_(heap) {}

  Status print(const Value& value) {
    const Heap::Depth depth(heap_);
    if (!heap_.spend_steps(1)) return {};  // the evaluator reports the exhausted heap
    switch (value.type()) {
      case Type::kNone:
      case Type::kBool:
      case Type::kInt:
      case Type::kFloat:
        out_.append(scalar(value), value.from_input());
        return {};
      case Type::kString:
        print_string(value.text());
        return {};
      case Type::kList:
      case Type::kTuple:
        return print_list(value);
      case Type::kDict:
        return print_dict(value);
      default:
        return make_error(ErrorCode::kInvalidArgument, "a {} is not JSON serializable",
                          type_name(value));
    }
  }

  Text take() { return out_.take(); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is(Type::kBool)) return value.as_bool() ? "true" : "false";
    if (value.is(Type::kInt)) return fmt::format("{}", value.as_integer());
    return json_float(value.as_number());
  }

  void print_string(const Text& text) {
    out_.append("\"", text.has_input());
    text.for_each_run([&](std::string_view run, bool from_input) {
      out_.append(escape_json(run, style_.ensure_ascii), from_input);
    });
    out_.append("\"", text.has_input());
  }

  void new_line(bool input) {
    if (!style_.indent) return;
    out_.append("\n", input);
    for (int i = 0; i < level_ && !heap_.exhausted(); ++i) out_.append(*style_.indent, input);
  }

  Status print_list(const Value& value) {
    const std::vector<Value>& values = value.items().values;
    const bool input = value.from_input();
    out_.append("[", input);
    ++level_;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator, input);
      new_line(input);
      US_TRY(print(values[i]));
    }
    --level_;
    if (!values.empty()) new_line(input);
    out_.append("]", input);
    return {};
  }

  Status print_dict(const Value& value) {
    US_ASSIGN(const std::vector<Dict::Entry> entries, ordered_entries(value.dict()));
    const bool input = value.from_input();
    out_.append("{", input);
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator, input);
      new_line(input);
      US_TRY(print_key(entries[i].first));
      out_.append(style_.key_separator, input);
      US_TRY(print(entries[i].second));
    }
    --level_;
    if (!entries.empty()) new_line(input);
    out_.append("}", input);
    return {};
  }

  Status print_key(const Value& key) {
    if (key.is_string()) {
      print_string(key.text());
    } else if (key.is_number() || key.is_none()) {
      out_.append(fmt::format("\"{}\"", scalar(key)), key.from_input());
    } else {
      return make_error(ErrorCode::kInvalidArgument, "a JSON key cannot be a {}", type_name(key));
    }
    return {};
  }

  Result<std::vector<Dict::Entry>> ordered_entries(const Dict& dict) {
    std::vector<Dict::Entry> entries = dict.entries();
    heap_.spend_bytes(entries.size() * sizeof(Dict::Entry));
    if (!style_.sort_keys) return entries;
    for (const auto& [key, value] : entries) {
      if (!key.is_string()) {
        return make_error(ErrorCode::kInvalidArgument,
                          "sort_keys needs keys that are strings, got a {}", type_name(key));
      }
    }
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.first.bytes() < b.first.bytes();
    });
    return entries;
  }

  Heap& heap_;
  const JsonStyle& style_;
  TextBuilder out_;
  int level_ = 0;
};

}  // namespace

Result<Text> to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  JsonPrinter printer(heap, style);
  US_TRY(printer.print(value));
  return printer.take();
}

}  // namespace ultraspeed::text::jinja
