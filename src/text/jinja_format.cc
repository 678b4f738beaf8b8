// str() and repr().
#include "text/jinja_format.h"

#include <charconv>
#include <cmath>

#include "text/jinja_scope.h"

namespace ultraspeed::text::jinja {

std::string format_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto written =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(written.ptr - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = std::abs(std::stoi(std::string(text.substr(e + 1))));
  if (text[e + 1] == '-') exponent = -exponent;

  const std::string_view all = digits;
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}{}{}{}e{}{:02}", out, all.substr(0, 1), all.size() > 1 ? "." : "",
                       all.substr(1), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return fmt::format("{}0.{:0>{}}{}", out, "", -exponent - 1, all);
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (all.size() <= whole) return fmt::format("{}{:0<{}}.0", out, all, whole);
  return fmt::format("{}{}.{}", out, all.substr(0, whole), all.substr(whole));
}

namespace {

class Printer {
 public:
  explicit Printer(Heap& heap) : heap_(heap), out_(heap) {}

  Status print(const Value& value) {
    const Heap::Depth depth(heap_);
    if (!heap_.spend_steps(1)) return {};  // the evaluator reports the exhausted heap
    const bool input = value.from_input();
    switch (value.type()) {
      case Type::kUndefined:
        return text("Undefined", input);
      case Type::kNone:
        return text("None", input);
      case Type::kBool:
        return text(value.as_bool() ? "True" : "False", input);
      case Type::kInt:
        return text(fmt::format("{}", value.as_integer()), input);
      case Type::kFloat:
        return text(format_float(value.as_number()), input);
      case Type::kString:
        return print_quoted(value.text());
      case Type::kList:
        return print_sequence(value, "[", "]");
      case Type::kTuple:
        return print_sequence(value, "(", value.items().values.size() == 1 ? ",)" : ")");
      case Type::kRange:
        return print_range(value);
      case Type::kDict:
        return print_dict(value);
      case Type::kNamespace:
        out_.append("<Namespace ", false);
        US_TRY(print_dict(value));
        return text(">", false);
      case Type::kMacro:
        return text(fmt::format("<Macro '{}'>", value.macro().definition->name), false);
      default:
        return make_error(ErrorCode::kUnsupported, "printing a {} is not supported",
                          type_name(value));
    }
  }

  Text take() { return out_.take(); }

 private:
  Status text(std::string_view bytes, bool from_input) {
    out_.append(bytes, from_input);
    return {};
  }

  // Single quotes, unless the text holds some and no double ones.
  Status print_quoted(const Text& value) {
    const bool has_single = value.bytes().find('\'') != std::string::npos;
    const bool has_double = value.bytes().find('"') != std::string::npos;
    const char quote = has_single && !has_double ? '"' : '\'';
    const bool input = value.has_input();
    out_.append({&quote, 1}, input);
    value.for_each_run([&](std::string_view run, bool from_input) {
      std::string escaped;
      for (size_t at = 0; at < run.size(); at += char_bytes(run, at)) {
        append_escaped(run, at, quote, escaped);
      }
      out_.append(escaped, from_input);
    });
    out_.append({&quote, 1}, input);
    return {};
  }

  static void append_escaped(std::string_view run, size_t at, char quote, std::string& out) {
    const char32_t c = char_at(run, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out += run.substr(at, char_bytes(run, at));
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else {
      const auto value = static_cast<uint32_t>(c);
      out += c < 0x10000 ? fmt::format("\\u{:04x}", value) : fmt::format("\\U{:08x}", value);
    }
  }

  Status print_sequence(const Value& value, std::string_view open, std::string_view close) {
    const bool input = value.from_input();
    out_.append(open, input);
    bool first = true;
    for (const Value& element : value.items().values) {
      if (!first) out_.append(", ", input);
      first = false;
      US_TRY(print(element));
    }
    return text(close, input);
  }

  // REQUIRES of ranges: built by range(), so that the step is constant.
  Status print_range(const Value& value) {
    const std::vector<Value>& values = value.items().values;
    if (values.empty()) return text("range(0, 0)", false);
    const Integer first = values.front().as_integer();
    const Integer step = values.size() > 1 ? values[1].as_integer() - first : Integer{1};
    const Integer end = values.back().as_integer() + step;
    return text(step == 1 ? fmt::format("range({}, {})", first, end)
                          : fmt::format("range({}, {}, {})", first, end, step),
                false);
  }

  Status print_dict(const Value& value) {
    const bool input = value.from_input();
    out_.append("{", input);
    bool first = true;
    for (const auto& [key, element] : value.dict().entries()) {
      if (!first) out_.append(", ", input);
      first = false;
      US_TRY(print(key));
      out_.append(": ", input);
      US_TRY(print(element));
    }
    return text("}", input);
  }

  Heap& heap_;
  TextBuilder out_;
};

}  // namespace

Result<Text> to_text(Heap& heap, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return Text();
  Printer printer(heap);
  US_TRY(printer.print(value));
  return printer.take();
}

}  // namespace ultraspeed::text::jinja
