// UTF-8 decoding by the table of well-formed byte sequences (Unicode Standard, table 3-7).
#include "text/utf8.h"

#include <simdjson.h>

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

// What a lead byte promises: the length and the range of the second byte; length 0 is no lead.
struct Lead {
  size_t length;
  unsigned char second_min;
  unsigned char second_max;
};

Lead classify_lead(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// The offset of a range's begin (or end) in the rewritten text.
size_t map_offset(size_t offset, bool is_end, const std::vector<TextEdit>& edits) {
  // The last edit whose source begins before the offset decides.
  auto after = std::partition_point(
      edits.begin(), edits.end(), [&](const TextEdit& edit) { return edit.source.begin < offset; });
  if (after == edits.begin()) return offset;
  const TextEdit& edit = *(after - 1);
  if (offset < edit.source.end) return is_end ? edit.target.end : edit.target.begin;
  return edit.target.end + (offset - edit.source.end);
}

}  // namespace

Utf8Piece first_utf8_piece(std::string_view bytes) {
  US_CHECK(!bytes.empty());
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const Lead lead = classify_lead(at(0));
  if (lead.length == 0) return {Utf8Kind::kMalformed, 1, 0};
  if (lead.length == 1) return {Utf8Kind::kCharacter, 1, at(0)};
  char32_t code_point = at(0) & (0x7Fu >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8Kind::kCutOff, i, 0};
    const unsigned char min = i == 1 ? lead.second_min : 0x80;
    const unsigned char max = i == 1 ? lead.second_max : 0xBF;
    if (at(i) < min || at(i) > max) return {Utf8Kind::kMalformed, i, 0};
    code_point = (code_point << 6) | (at(i) & 0x3Fu);
  }
  return {Utf8Kind::kCharacter, lead.length, code_point};
}

bool is_valid_utf8(std::string_view bytes) {
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

void append_utf8(char32_t code_point, std::string& out) {
  US_CHECK(code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF),
           "U+{:04X} is not a Unicode scalar value", static_cast<uint32_t>(code_point));
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

RewrittenText replace_malformed(std::string_view bytes) {
  RewrittenText result;
  if (is_valid_utf8(bytes)) {
    result.text = bytes;
    return result;
  }
  result.text.reserve(bytes.size() + bytes.size() / 8);
  for (size_t offset = 0; offset < bytes.size();) {
    const Utf8Piece piece = first_utf8_piece(bytes.substr(offset));
    const size_t target_begin = result.text.size();
    if (piece.kind == Utf8Kind::kCharacter) {
      result.text.append(bytes.substr(offset, piece.size_bytes));
    } else {
      result.text.append(kReplacementCharacter);
      result.edits.push_back(
          {{offset, offset + piece.size_bytes}, {target_begin, result.text.size()}});
    }
    offset += piece.size_bytes;
  }
  return result;
}

std::vector<ByteRange> map_ranges(const std::vector<ByteRange>& ranges,
                                  const std::vector<TextEdit>& edits) {
  if (edits.empty()) return ranges;
  std::vector<ByteRange> mapped;
  mapped.reserve(ranges.size());
  for (const ByteRange& range : ranges) {
    mapped.push_back({map_offset(range.begin, false, edits), map_offset(range.end, true, edits)});
  }
  return mapped;
}

}  // namespace ultraspeed::text
