#include "server/output_text.h"

#include <algorithm>
#include <utility>

namespace ultraspeed::server {

OutputText::OutputText(const text::Tokenizer& tokenizer, text::StopStrings stop,
                       const Options& options)
    : tokenizer_(tokenizer),
      skip_special_(options.skip_special),
      stream_(tokenizer, std::move(stop), {.skip_special = false, .include_stop = false}) {
  for (const std::string_view marker : options.markers) {
    if (const auto id = tokenizer.find_token(marker)) marker_ids_.push_back(*id);
  }
}

text::TextDelta OutputText::push(int32_t id) {
  const bool is_marker = std::find(marker_ids_.begin(), marker_ids_.end(), id) != marker_ids_.end();
  if (skip_special_ && !is_marker && tokenizer_.is_special(id)) return {};
  return stream_.push(id);
}

}  // namespace ultraspeed::server
