// The text of a generation as the API shows it. A chat answer keeps the markers that structure it
// (answer_markers()), which checkpoints declare as special tokens, and drops the other special
// tokens; a completion drops all of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_stream.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

class OutputText {
 public:
  struct Options {
    bool skip_special = true;
    std::span<const std::string_view> markers = {};  // that are kept all the same
  };

  // REQUIRES: the tokenizer outlives it.
  OutputText(const text::Tokenizer& tokenizer, text::StopStrings stop, const Options& options);

  // As text::TextStream.
  text::TextDelta push(int32_t id);
  text::TextDelta finish() { return stream_.finish(); }

 private:
  const text::Tokenizer& tokenizer_;
  const bool skip_special_;
  std::vector<int32_t> marker_ids_;
  text::TextStream stream_;
};

}  // namespace ultraspeed::server
