#include "server/output_text.h"

#include <algorithm>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr const char* kMarkers[] = {"<think>", "</think>", "<tool_call>", "</tool_call>"};

}  // namespace

OutputText::OutputText(const text::Tokenizer& tokenizer, text::StopStrings stop,
                       const Options& options)
    : tokenizer_(tokenizer),
      options_(options),
      stream_(tokenizer, std::move(stop), {.skip_special = false, .include_stop = false}) {
  if (!options.keep_markers) return;
  for (const char* marker : kMarkers) {
    if (const auto id = tokenizer.find_token(marker)) marker_ids_.push_back(*id);
  }
}

text::TextDelta OutputText::push(int32_t id) {
  const bool is_marker = std::find(marker_ids_.begin(), marker_ids_.end(), id) != marker_ids_.end();
  if (options_.skip_special && !is_marker && tokenizer_.is_special(id)) return {};
  return stream_.push(id);
}

}  // namespace ultraspeed::server
