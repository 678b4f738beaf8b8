// The text of a generation as it may be shown: whole characters, ended by a stop string, and held
// back while its end could still become one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/detokenizer.h"

namespace ultraspeed::text {

// A set of stop strings. Immutable.
class StopStrings {
 public:
  StopStrings() = default;  // none
  // Errors: kInvalidArgument for an empty or malformed (not UTF-8) string.
  static Result<StopStrings> create(const std::vector<std::string>& strings);

 private:
  friend class StopScanner;
  struct Pattern {
    std::string text;
    // fallback[n]: the longest proper suffix of text[0, n+1) that is also its prefix, in bytes
    // (Knuth, Morris and Pratt 1977).
    std::vector<size_t> fallback;
  };
  std::vector<Pattern> patterns_;
};

struct TextDelta {
  std::string text;       // what may be shown now
  bool stopped = false;   // a stop string was found: nothing comes after this
  std::string stop = {};  // the stop string, with the delta in which it was found
};

// Looks for the stop string that ends first (of those the longest). The text shown and the place
// of the stop depend on the whole text alone, not on the chunks in which it came.
class StopScanner {
 public:
  // include_stop: show the stop string too.
  explicit StopScanner(StopStrings strings = {}, bool include_stop = false);

  // Takes a chunk; after a stop it returns {"", true}.
  TextDelta push(std::string_view chunk);

  // The text is over: what was held back, if no stop string was found.
  TextDelta finish();

 private:
  // Takes one byte; the longest stop string that ends with it, or nullptr.
  const std::string* advance(char byte);

  StopStrings strings_;
  bool include_stop_;
  std::vector<size_t> matched_;  // of each pattern: the bytes that the end of the text matches
  std::string held_;             // the longest end of the text that may begin a stop string
  bool stopped_ = false;
};

// Detokenizer and StopScanner, joined. REQUIRES: the tokenizer outlives it.
class TextStream {
 public:
  struct Options {
    bool skip_special = true;
    bool include_stop = false;
  };

  TextStream(const Tokenizer& tokenizer, StopStrings strings, const Options& options)
      : detokenizer_(tokenizer, options.skip_special),
        scanner_(std::move(strings), options.include_stop) {}

  // The text that the next id makes safe to show, and whether a stop string was found.
  TextDelta push(int32_t id) { return scanner_.push(detokenizer_.push(id)); }

  // The end of the generation: all that was held back. The last piece of text may complete a stop.
  TextDelta finish();

 private:
  Detokenizer detokenizer_;
  StopScanner scanner_;
};

}  // namespace ultraspeed::text
