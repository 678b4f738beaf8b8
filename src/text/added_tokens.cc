// The search: a sorted list of the contents, narrowed byte by byte from each place where some
// content may begin. Word characters and white space are those of Rust's regex crate (\w, \s),
// which the reference library uses for single_word, lstrip and rstrip.
#include "text/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

// Unicode property White_Space (PropList.txt).
bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Alphabetic, mark, decimal digit, connector or join control (UTS #18, annex C).
bool is_word_character(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      // Join controls, and the symbols that are alphabetic (Other_Alphabetic, all in So).
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
             (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
             (c >= 0x1F170 && c <= 0x1F189);
  }
}

// The last character of a text, if it has one.
std::optional<Utf8Piece> last_character(std::string_view text) {
  if (text.empty()) return std::nullopt;
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return first_utf8_piece(text.substr(begin));
}

bool is_inside_word(std::string_view text, ByteRange range) {
  const std::optional<Utf8Piece> before = last_character(text.substr(0, range.begin));
  if (before && is_word_character(before->code_point)) return true;
  if (range.end == text.size()) return false;
  return is_word_character(first_utf8_piece(text.substr(range.end)).code_point);
}

size_t leading_white_space(std::string_view text) {
  size_t size_bytes = 0;
  while (size_bytes < text.size()) {
    const Utf8Piece piece = first_utf8_piece(text.substr(size_bytes));
    if (!is_white_space(piece.code_point)) break;
    size_bytes += piece.size_bytes;
  }
  return size_bytes;
}

size_t trailing_white_space(std::string_view text) {
  size_t size_bytes = 0;
  while (const auto piece = last_character(text.substr(0, text.size() - size_bytes))) {
    if (!is_white_space(piece->code_point)) break;
    size_bytes += piece->size_bytes;
  }
  return size_bytes;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) {
    US_CHECK(!token.content.empty());
    is_first_byte_[static_cast<uint8_t>(token.content[0])] = true;
  }
}

// The longest token that the text starts with, or null.
const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto begin = tokens_.begin();
  auto end = tokens_.end();
  for (size_t depth = 0; begin != end; ++depth) {
    // All contents in [begin, end) agree with the text in `depth` bytes; the one of this length is
    // the first of them.
    if (begin->content.size() == depth) longest = &*begin++;
    if (depth == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[depth]);
    const auto byte_of = [&](const AddedToken& token) {
      return static_cast<uint8_t>(token.content[depth]);
    };
    begin = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) < byte; });
    end = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) == byte; });
  }
  return longest;
}

std::vector<AddedTokenPiece> AddedTokenFinder::split(
    std::string_view text, std::span<const ByteRange> plain_ranges) const {
  std::vector<AddedTokenPiece> pieces;
  size_t covered = 0;       // the end of the last piece
  size_t region_begin = 0;  // of the stretch between plain ranges
  const auto scan_region = [&](size_t region_end) {
    for (size_t offset = std::max(region_begin, covered); offset < region_end;) {
      const bool may_begin = is_first_byte_[static_cast<uint8_t>(text[offset])];
      const AddedToken* token =
          may_begin ? longest_at(text.substr(offset, region_end - offset)) : nullptr;
      if (token == nullptr) {
        ++offset;
        continue;
      }
      ByteRange range{offset, offset + token->content.size()};
      offset = range.end;
      if (token->single_word && is_inside_word(text, range)) continue;
      if (token->lstrip) {
        const size_t floor = std::max(region_begin, covered);
        range.begin -= trailing_white_space(text.substr(floor, range.begin - floor));
      }
      if (token->rstrip) {
        range.end += leading_white_space(text.substr(range.end, region_end - range.end));
        offset = range.end;
      }
      if (covered < range.begin) pieces.push_back({{covered, range.begin}});
      pieces.push_back({range, token->id});
      covered = range.end;
    }
  };
  if (!tokens_.empty()) {
    for (const ByteRange& plain : plain_ranges) {
      scan_region(plain.begin);
      region_begin = plain.end;
    }
    scan_region(text.size());
  }
  if (covered < text.size()) pieces.push_back({{covered, text.size()}});
  return pieces;
}

}  // namespace ultraspeed::text
