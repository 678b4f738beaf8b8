// The text of a generation as the API shows it. A chat answer keeps the markers that structure it
// ("<think>", "<tool_call>"), which checkpoints declare as special tokens, and drops the other
// special tokens; a completion drops all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/text_stream.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

class OutputText {
 public:
  struct Options {
    bool skip_special = true;
    bool keep_markers = false;
  };

  // REQUIRES: the tokenizer outlives it.
  OutputText(const text::Tokenizer& tokenizer, text::StopStrings stop, const Options& options);

  // As text::TextStream.
  text::TextDelta push(int32_t id);
  text::TextDelta finish() { return stream_.finish(); }

 private:
  const text::Tokenizer& tokenizer_;
  const Options options_;
  std::vector<int32_t> marker_ids_;
  text::TextStream stream_;
};

}  // namespace ultraspeed::server
