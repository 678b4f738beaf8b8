// Cuts a text into the words that BPE works on: a list of splits by regular expressions, each
// applied to the pieces of the one before, as the reference library's Sequence[Split...,
// ByteLevel].
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/regex.h"

namespace ultraspeed::text {

// What becomes of a match ("delimiter"): a piece of its own, dropped, joined to its neighbour, or
// joined to the neighbouring matches.
enum class SplitBehavior {
  kIsolated,
  kRemoved,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

struct Split {
  Regex regex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what lies between the matches is the delimiter
};

// The words of one text. They point into the text and into prefixed.
struct Words {
  std::vector<std::string_view> words;
  std::deque<std::string> prefixed;  // pieces that got a space in front
};

class PreTokenizer {
 public:
  // The matchers of one thread.
  using Matchers = std::vector<RegexMatcher>;

  PreTokenizer() = default;
  // Splits [0, prefix_at) run first, then each piece that does not start with a space gets one (if
  // add_prefix_space), then the other splits run. REQUIRES: prefix_at <= splits.size().
  PreTokenizer(std::vector<Split> splits, bool add_prefix_space, size_t prefix_at);

  Matchers make_matchers() const;

  // Errors: kInvalidArgument when a regular expression reaches its limit on this text. REQUIRES:
  // text is valid UTF-8 and outlives the words; matchers are of this pre-tokenizer.
  Result<Words> split(std::string_view text, Matchers& matchers) const;

 private:
  std::vector<Split> splits_;
  bool add_prefix_space_ = false;
  size_t prefix_at_ = 0;
};

}  // namespace ultraspeed::text
