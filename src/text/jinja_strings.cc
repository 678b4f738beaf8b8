// str operations.
#include "text/jinja_strings.h"

#include <algorithm>
#include <cstring>

namespace ultraspeed::text::jinja {

namespace {

bool holds_char(std::string_view chars, char32_t wanted) {
  for (size_t at = 0; at < chars.size(); at += char_bytes(chars, at)) {
    if (char_at(chars, at) == wanted) return true;
  }
  return false;
}

// Maps each character, given as bytes and code point, to its replacement; marks stay.
template <class Map>
Text map_chars(Heap& heap, const Text& text, Map map) {
  TextBuilder out(heap);
  heap.spend_steps(text.size_bytes() / 8);
  text.for_each_run([&](std::string_view run, bool from_input) {
    std::string mapped;
    for (size_t at = 0; at < run.size(); at += char_bytes(run, at)) {
      mapped += map(run.substr(at, char_bytes(run, at)), char_at(run, at));
    }
    out.append(mapped, from_input);
  });
  return out.take();
}

}  // namespace

size_t find_text(Heap& heap, std::string_view text, std::string_view wanted, size_t from) {
  const std::string_view rest = text.substr(from);
  // glibc's memmem is the two-way algorithm; std::string_view::find takes quadratic time at worst.
  const void* found = memmem(rest.data(), rest.size(), wanted.data(), wanted.size());
  if (found == nullptr) {
    heap.spend_steps((rest.size() + wanted.size()) / 64);
    return std::string_view::npos;
  }
  const auto place = static_cast<size_t>(static_cast<const char*>(found) - rest.data());
  heap.spend_steps((place + wanted.size()) / 64);
  return from + place;
}

size_t find_last_text(Heap& heap, std::string_view text, std::string_view wanted) {
  if (!heap.spend_steps((text.size() / 64 + 1) * (wanted.size() / 64 + 1))) {
    return std::string_view::npos;
  }
  return text.rfind(wanted);
}

Text strip(Heap& heap, const Text& text, const Text* chars, Side side) {
  const std::string_view bytes = text.bytes();
  heap.spend_steps(bytes.size() / 64 + (chars == nullptr ? 0 : chars->size_bytes()));
  const auto strips = [&](char32_t c) {
    return chars == nullptr ? is_space(c) : holds_char(chars->bytes(), c);
  };
  size_t begin = 0;
  size_t end = bytes.size();
  if (side != Side::kRight) {
    while (begin < end && strips(char_at(bytes, begin)) && heap.spend_steps(1)) {
      begin += char_bytes(bytes, begin);
    }
  }
  if (side != Side::kLeft) {
    while (begin < end) {
      size_t last = end - 1;
      while ((static_cast<unsigned char>(bytes[last]) & 0xC0) == 0x80) --last;
      if (!strips(char_at(bytes, last)) || !heap.spend_steps(1)) break;
      end = last;
    }
  }
  return text.slice(begin, end);
}

Text upper(Heap& heap, const Text& text) {
  return map_chars(heap, text, [](std::string_view c, char32_t) { return to_upper(c); });
}

Text lower(Heap& heap, const Text& text) {
  return map_chars(heap, text, [](std::string_view c, char32_t) { return to_lower(c); });
}

Text capitalize(Heap& heap, const Text& text) {
  bool first = true;
  return map_chars(heap, text, [&](std::string_view c, char32_t) {
    return std::exchange(first, false) ? to_upper(c) : to_lower(c);
  });
}

Text title(Heap& heap, const Text& text) {
  bool in_word = false;
  return map_chars(heap, text, [&](std::string_view c, char32_t code_point) {
    const bool is_cased = is_cased_letter(code_point);
    return std::exchange(in_word, is_cased) ? to_lower(c) : to_upper(c);
  });
}

Text title_words(Heap& heap, const Text& text) {
  bool in_word = false;
  return map_chars(heap, text, [&](std::string_view c, char32_t code_point) {
    const bool separates = is_space(code_point) || holds_char("-({[<", code_point);
    return std::exchange(in_word, !separates) ? to_lower(c) : to_upper(c);
  });
}

Text reverse(Heap& heap, const Text& text) {
  const std::string_view bytes = text.bytes();
  std::vector<size_t> begins;
  if (!heap.spend_bytes(bytes.size() * sizeof(size_t))) return {};
  for (size_t at = 0; at < bytes.size(); at += char_bytes(bytes, at)) begins.push_back(at);
  Text out;
  size_t end = bytes.size();
  for (auto begin = begins.rbegin(); begin != begins.rend(); ++begin) {
    out.append(text, *begin, end);
    end = *begin;
  }
  return out;
}

Text replace(Heap& heap, const Text& text, const Text& old_text, const Text& new_text,
             Integer count) {
  const std::string_view bytes = text.bytes();
  const std::string_view wanted = old_text.bytes();
  TextBuilder out(heap);
  size_t at = 0;
  for (Integer done = 0; count < 0 || done < count; ++done) {
    size_t found = find_text(heap, bytes, wanted, at);
    if (wanted.empty() && done > 0) {  // found before every character and at the end
      found = at < bytes.size() ? at + char_bytes(bytes, at) : std::string_view::npos;
    }
    if (found == std::string_view::npos) break;
    out.append(text, at, found);
    if (!out.append(new_text)) break;
    at = found + wanted.size();
  }
  out.append(text, at, bytes.size());
  return out.take();
}

namespace {

// Appends the piece [begin, end); false once the heap is exhausted.
bool add_piece(Heap& heap, const Text& text, size_t begin, size_t end, std::vector<Value>& out) {
  out.push_back(heap.string(text.slice(begin, end)));
  return heap.spend_bytes(sizeof(Value)) && heap.spend_steps(1);
}

std::vector<Value> split_at_space(Heap& heap, const Text& text, Integer max_splits) {
  const std::string_view bytes = text.bytes();
  std::vector<Value> out;
  size_t at = leading_space_end(bytes);
  while (at < bytes.size()) {
    size_t end = at;
    if (max_splits >= 0 && static_cast<Integer>(out.size()) == max_splits) {
      end = bytes.size();
    } else {
      while (end < bytes.size() && !is_space(char_at(bytes, end))) end += char_bytes(bytes, end);
    }
    if (!add_piece(heap, text, at, end, out)) break;
    at = end + leading_space_end(bytes.substr(end));
  }
  return out;
}

tl::unexpected<Error> empty_separator() {
  return make_error(ErrorCode::kInvalidArgument, "empty separator");
}

}  // namespace

Result<std::vector<Value>> split(Heap& heap, const Text& text, const Text* separator,
                                 Integer max_splits) {
  const std::string_view bytes = text.bytes();
  if (separator == nullptr) return split_at_space(heap, text, max_splits);
  if (separator->empty()) return empty_separator();
  std::vector<Value> out;
  size_t at = 0;
  while (max_splits < 0 || static_cast<Integer>(out.size()) < max_splits) {
    const size_t found = find_text(heap, bytes, separator->bytes(), at);
    if (found == std::string_view::npos) break;
    if (!add_piece(heap, text, at, found, out)) break;
    at = found + separator->size_bytes();
  }
  add_piece(heap, text, at, bytes.size(), out);
  return out;
}

Result<std::vector<Value>> split_right(Heap& heap, const Text& text, const Text& separator,
                                       Integer max_splits) {
  const std::string_view bytes = text.bytes();
  if (separator.empty()) return empty_separator();
  std::vector<Value> out;
  size_t end = bytes.size();
  while (max_splits < 0 || static_cast<Integer>(out.size()) < max_splits) {
    const size_t found = find_last_text(heap, bytes.substr(0, end), separator.bytes());
    if (found == std::string_view::npos) break;
    if (!add_piece(heap, text, found + separator.size_bytes(), end, out)) break;
    end = found;
  }
  add_piece(heap, text, 0, end, out);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Text> split_lines(Heap& heap, const Text& text) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> lines;
  size_t line_begin = 0;
  heap.spend_steps(bytes.size() / 8);
  for (size_t at = 0; at < bytes.size();) {
    const char32_t c = char_at(bytes, at);
    const size_t end = at + char_bytes(bytes, at);
    if (!is_line_break(c)) {
      at = end;
      continue;
    }
    if (!heap.spend_bytes(sizeof(Text) + (at - line_begin))) return lines;
    lines.push_back(text.slice(line_begin, at));
    at = c == '\r' && end < bytes.size() && bytes[end] == '\n' ? end + 1 : end;
    line_begin = at;
  }
  if (line_begin < bytes.size()) lines.push_back(text.slice(line_begin, bytes.size()));
  return lines;
}

}  // namespace ultraspeed::text::jinja
