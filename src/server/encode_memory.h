// The tokens of prompts, for prompts that begin alike: a conversation's next turn, or a fork of it,
// has only its new text tokenized. Behind a border token the ids of a text do not depend on what
// precedes; there a known prompt and a new one may be joined.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// Prompts that were used last, up to so many bytes. Any thread.
class EncodeMemory {
 public:
  // REQUIRES: the tokenizer outlives it.
  EncodeMemory(const text::Tokenizer& tokenizer, size_t max_bytes)
      : tokenizer_(tokenizer),
        reach_bytes_(tokenizer.border_reach_bytes()),
        max_bytes_(max_bytes) {}

  // Forgets what is more.
  void set_max_bytes(size_t max_bytes);

  // tokenizer.encode(prompt.text) with its input ranges plain. Only prompts of the same domain help
  // each other, so that the time it takes tells nobody of others.
  Result<std::vector<int32_t>> encode(const std::string& domain,
                                      const text::RenderedPrompt& prompt);

 private:
  struct Joint {  // behind a border
    size_t text_size = 0;
    size_t num_ids = 0;
  };
  struct Known {
    std::string domain;
    std::string text;
    std::vector<text::ByteRange> plain;
    std::vector<int32_t> ids;
    std::vector<Joint> joints;
  };
  struct Begin {
    size_t text_size = 0;
    std::vector<int32_t> ids;
  };

  Begin find(const std::string& domain, const text::RenderedPrompt& prompt);
  void keep(Known known);
  void trim();
  std::vector<Joint> joints_of(std::string_view text, const std::vector<int32_t>& ids) const;
  static size_t bytes_of(const Known& known);

  const text::Tokenizer& tokenizer_;
  // Behind a joint both texts must be alike for so long.
  const size_t reach_bytes_;
  std::mutex mutex_;
  size_t max_bytes_;
  std::list<Known> known_;  // the one used last comes first
  size_t bytes_ = 0;
};

}  // namespace ultraspeed::server
