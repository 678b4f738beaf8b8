// NFC stretch by stretch. ASCII characters never combine with what stands before them, so a text
// falls apart into stretches of one ASCII character (or none) and the non-ASCII ones behind it, and
// plain ASCII is copied. utf8proc_map() is not used because its canonical ordering takes quadratic
// time on long runs of combining marks.
#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

constexpr auto kNfcOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
constexpr char32_t kFirstUnstable = 0x300;  // every smaller code point is its own NFC, a starter

bool is_ascii(char byte) {
  return static_cast<unsigned char>(byte) < 0x80;
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

class StretchNormalizer {
 public:
  // Appends the NFC of one stretch to out.
  void append(std::string_view stretch, std::string& out) {
    if (!decompose(stretch)) {
      out.append(stretch);
      return;
    }
    order_canonically();
    const utf8proc_ssize_t size = utf8proc_normalize_utf32(
        code_points_.data(), static_cast<utf8proc_ssize_t>(code_points_.size()), kNfcOptions);
    US_CHECK(size >= 0, "utf8proc_normalize_utf32: {}", size);
    for (utf8proc_ssize_t i = 0; i < size; ++i) {
      append_utf8(static_cast<char32_t>(code_points_[static_cast<size_t>(i)]), out);
    }
  }

 private:
  // Fills code_points_ with the canonical decomposition; false if the stretch is certainly in NFC.
  bool decompose(std::string_view stretch) {
    bool is_stable = true;
    code_points_.clear();
    for (size_t offset = 0; offset < stretch.size();) {
      const Utf8Piece piece = first_utf8_piece(stretch.substr(offset));
      offset += piece.size_bytes;
      is_stable = is_stable && piece.code_point < kFirstUnstable;
      std::array<utf8proc_int32_t, 8> parts;  // canonical decompositions have at most 4
      const utf8proc_ssize_t count =
          utf8proc_decompose_char(static_cast<utf8proc_int32_t>(piece.code_point), parts.data(),
                                  parts.size(), kNfcOptions, nullptr);
      US_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()),
               "utf8proc_decompose_char: {}", count);
      code_points_.insert(code_points_.end(), parts.begin(), parts.begin() + count);
    }
    return !is_stable;
  }

  // Sorts each run of combining marks by combining class, stably (Unicode Standard, D109).
  void order_canonically() {
    const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
    for (auto it = code_points_.begin(); it != code_points_.end();) {
      const auto begin = std::find_if(it, code_points_.end(), is_mark);
      const auto end = std::find_if_not(begin, code_points_.end(), is_mark);
      std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return combining_class(a) < combining_class(b);
      });
      it = end;
    }
  }

  std::vector<utf8proc_int32_t> code_points_;
};

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// The change from source to target without the characters that both begin and end with; empty
// ranges if they are equal. Offsets are relative to the two texts.
TextEdit find_change(std::string_view source, std::string_view target) {
  size_t begin = 0;
  const size_t shorter = std::min(source.size(), target.size());
  while (begin < shorter && source[begin] == target[begin]) ++begin;
  if (begin == source.size() && begin == target.size()) return {};
  const auto splits_character = [&](size_t offset) {
    return (offset < source.size() && is_continuation(source[offset])) ||
           (offset < target.size() && is_continuation(target[offset]));
  };
  while (splits_character(begin)) --begin;
  size_t tail = 0;
  while (tail < shorter - begin &&
         source[source.size() - tail - 1] == target[target.size() - tail - 1]) {
    ++tail;
  }
  while (tail > 0 && is_continuation(source[source.size() - tail])) --tail;
  return {{begin, source.size() - tail}, {begin, target.size() - tail}};
}

}  // namespace

RewrittenText normalize_nfc(std::string_view text) {
  RewrittenText result;
  result.text.reserve(text.size());
  StretchNormalizer normalizer;
  const auto at = [&](size_t offset) { return text.begin() + static_cast<ptrdiff_t>(offset); };
  for (size_t offset = 0; offset < text.size();) {
    const auto non_ascii = std::find_if_not(at(offset), text.end(), is_ascii);
    const auto ascii_end = static_cast<size_t>(non_ascii - text.begin());
    if (ascii_end == text.size()) {
      result.text.append(text.substr(offset));
      break;
    }
    const size_t begin = ascii_end > offset ? ascii_end - 1 : offset;
    result.text.append(text.substr(offset, begin - offset));
    const auto end =
        static_cast<size_t>(std::find_if(non_ascii, text.end(), is_ascii) - text.begin());
    const size_t target_begin = result.text.size();
    const std::string_view stretch = text.substr(begin, end - begin);
    normalizer.append(stretch, result.text);
    const TextEdit change =
        find_change(stretch, std::string_view(result.text).substr(target_begin));
    if (change.source.begin != change.source.end || change.target.begin != change.target.end) {
      result.edits.push_back(
          {{begin + change.source.begin, begin + change.source.end},
           {target_begin + change.target.begin, target_begin + change.target.end}});
    }
    offset = end;
  }
  return result;
}

}  // namespace ultraspeed::text
