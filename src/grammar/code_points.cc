// Sorted ranges; a range of characters is cut where the length or a leading byte of its UTF-8
// changes, until all bytes vary independently.
#include "grammar/code_points.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;
constexpr std::array<char32_t, 3> kLastOfLength = {0x7F, 0x7FF, 0xFFFF};

// REQUIRES: no surrogate inside of the range, and one UTF-8 length.
void split_range(char32_t first, char32_t last, std::vector<ByteSequence>* out) {
  std::string low;
  append_utf8(first, &low);
  for (size_t i = 1; i < low.size(); ++i) {
    const char32_t mask = (char32_t{1} << (6 * i)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      split_range(first, first | mask, out);
      return split_range((first | mask) + 1, last, out);
    }
    if ((last & mask) != mask) {
      split_range(first, (last & ~mask) - 1, out);
      return split_range(last & ~mask, last, out);
    }
  }
  std::string high;
  append_utf8(last, &high);
  ByteSequence sequence;
  sequence.size = static_cast<uint8_t>(low.size());
  for (size_t i = 0; i < low.size(); ++i) {
    sequence.ranges[i] = {static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i])};
  }
  out->push_back(sequence);
}

}  // namespace

CodePoints::CodePoints(std::initializer_list<Range> ranges) {
  for (const Range& range : ranges) add(range.first, range.last);
}

CodePoints CodePoints::all() {
  return {{0, kMaxCodePoint}};
}

void CodePoints::add(char32_t first, char32_t last) {
  US_CHECK(first <= last && last <= kMaxCodePoint, "{:x} to {:x}", uint32_t{first}, uint32_t{last});
  if (first < kFirstSurrogate && last >= kFirstSurrogate) {
    add(first, kFirstSurrogate - 1);
    if (last > kLastSurrogate) add(kLastSurrogate + 1, last);
    return;
  }
  if (first >= kFirstSurrogate && first <= kLastSurrogate) {
    if (last > kLastSurrogate) add(kLastSurrogate + 1, last);
    return;
  }
  Range merged{first, last};
  const auto begin = std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& range) {
    return range.last + 1 < merged.first;
  });
  auto end = begin;
  for (; end != ranges_.end() && end->first <= merged.last + 1; ++end) {
    merged.first = std::min(merged.first, end->first);
    merged.last = std::max(merged.last, end->last);
  }
  ranges_.insert(ranges_.erase(begin, end), merged);
}

void CodePoints::add(const CodePoints& other) {
  for (const Range& range : other.ranges_) add(range.first, range.last);
}

CodePoints CodePoints::complement() const {
  CodePoints result;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) result.add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) result.add(next, kMaxCodePoint);
  return result;
}

CodePoints CodePoints::without(const CodePoints& other) const {
  CodePoints rest = complement();
  rest.add(other);
  return rest.complement();
}

bool CodePoints::contains(char32_t code_point) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& range) {
    return range.first <= code_point && code_point <= range.last;
  });
}

std::vector<ByteSequence> utf8_sequences(const CodePoints& set) {
  std::vector<ByteSequence> sequences;
  for (const CodePoints::Range& range : set.ranges()) {
    char32_t first = range.first;
    for (const char32_t last : kLastOfLength) {
      if (first > last) continue;
      split_range(first, std::min(last, range.last), &sequences);
      first = last + 1;
      if (first > range.last) break;
    }
    if (first <= range.last) split_range(first, range.last, &sequences);
  }
  return sequences;
}

Character first_character(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const utf8proc_ssize_t num_bytes =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  if (num_bytes <= 0) return {};
  return {static_cast<char32_t>(code_point), static_cast<size_t>(num_bytes)};
}

void append_utf8(char32_t code_point, std::string* out) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const utf8proc_ssize_t num_bytes =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  out->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(num_bytes));
}

}  // namespace ultraspeed::grammar
