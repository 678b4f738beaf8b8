// The split behaviours follow NormalizedString::split of the reference library (tokenizers,
// tokenizer/normalizer.rs), the search for matches its Oniguruma binding (onig, find.rs).
#include "text/pretokenizer.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

struct Piece {
  ByteRange range;
  bool is_delimiter = false;
};

// Covers the text with matches and the gaps between them. An empty match right behind the last one
// is skipped; other empty matches are pieces too, since they separate.
Result<std::vector<Piece>> find_pieces(const Split& split, RegexMatcher& matcher,
                                       std::string_view text) {
  std::vector<Piece> pieces;
  size_t covered = 0;  // the end of the last piece
  bool has_match = false;
  for (size_t from = 0; from <= text.size();) {
    US_ASSIGN(const std::optional<ByteRange> match, matcher.find(text, from));
    if (!match) break;
    if (match->begin == match->end && has_match && match->end == covered) {
      if (from == text.size()) break;
      from += first_utf8_piece(text.substr(from)).size_bytes;
      continue;
    }
    if (covered < match->begin) pieces.push_back({{covered, match->begin}, split.invert});
    pieces.push_back({*match, !split.invert});
    covered = match->end;
    from = match->end;
    has_match = true;
  }
  if (covered < text.size()) pieces.push_back({{covered, text.size()}, split.invert});
  return pieces;
}

// Joins each piece for which joins(piece, previous piece) holds to the piece before it.
template <class Joins>
std::vector<Piece> join_pieces(const std::vector<Piece>& pieces, Joins joins) {
  std::vector<Piece> joined;
  bool previous_is_delimiter = false;
  for (const Piece& piece : pieces) {
    if (!joined.empty() && joins(piece.is_delimiter, previous_is_delimiter)) {
      joined.back().range.end = piece.range.end;
    } else {
      joined.push_back(piece);
    }
    previous_is_delimiter = piece.is_delimiter;
  }
  return joined;
}

std::vector<Piece> apply_behavior(SplitBehavior behavior, std::vector<Piece> pieces) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return pieces;
    case SplitBehavior::kRemoved:
      std::erase_if(pieces, [](const Piece& piece) { return piece.is_delimiter; });
      return pieces;
    case SplitBehavior::kContiguous:
      return join_pieces(pieces, [](bool is, bool previous_is) { return is == previous_is; });
    case SplitBehavior::kMergedWithPrevious:
      return join_pieces(pieces, [](bool is, bool previous_is) { return is && !previous_is; });
    case SplitBehavior::kMergedWithNext: {
      // The mirror image: a delimiter joins what follows it, unless that is a delimiter too.
      std::vector<Piece> joined;
      for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
        const bool joins =
            piece != pieces.rbegin() && piece->is_delimiter && !(piece - 1)->is_delimiter;
        if (joins) {
          joined.back().range.begin = piece->range.begin;
        } else {
          joined.push_back(*piece);
        }
      }
      std::reverse(joined.begin(), joined.end());
      return joined;
    }
  }
  US_CHECK(false, "unknown behavior");
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<Split> splits, bool add_prefix_space, size_t prefix_at)
    : splits_(std::move(splits)), add_prefix_space_(add_prefix_space), prefix_at_(prefix_at) {
  US_CHECK(prefix_at_ <= splits_.size());
}

PreTokenizer::Matchers PreTokenizer::make_matchers() const {
  Matchers matchers;
  for (const Split& split : splits_) matchers.emplace_back(split.regex);
  return matchers;
}

Result<Words> PreTokenizer::split(std::string_view text, Matchers& matchers) const {
  US_CHECK(matchers.size() == splits_.size());
  Words result;
  if (!text.empty()) result.words.push_back(text);
  for (size_t i = 0; i <= splits_.size(); ++i) {
    if (add_prefix_space_ && i == prefix_at_) {
      for (std::string_view& word : result.words) {
        if (!word.starts_with(' ')) {
          word = result.prefixed.emplace_back(1, ' ').append(word);
        }
      }
    }
    if (i == splits_.size()) break;
    std::vector<std::string_view> words;
    for (const std::string_view word : result.words) {
      US_ASSIGN(std::vector<Piece> pieces, find_pieces(splits_[i], matchers[i], word));
      for (const Piece& piece : apply_behavior(splits_[i].behavior, std::move(pieces))) {
        const size_t size_bytes = piece.range.end - piece.range.begin;
        if (size_bytes > 0) words.push_back(word.substr(piece.range.begin, size_bytes));
      }
    }
    result.words = std::move(words);
  }
  return result;
}

}  // namespace ultraspeed::text
