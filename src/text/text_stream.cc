// One Knuth-Morris-Pratt automaton for each stop string: the largest of their states is exactly how
// much of the text's end must be held back.
#include "text/text_stream.h"

#include <algorithm>

#include "text/utf8.h"

namespace ultraspeed::text {
namespace {

// One step of the automaton: the matched length after `byte`. REQUIRES: matched < text.size().
size_t step(const std::string& text, const std::vector<size_t>& fallback, size_t matched,
            char byte) {
  while (matched > 0 && text[matched] != byte) matched = fallback[matched - 1];
  return text[matched] == byte ? matched + 1 : 0;
}

}  // namespace

Result<StopStrings> StopStrings::create(const std::vector<std::string>& strings) {
  StopStrings result;
  for (const std::string& text : strings) {
    if (text.empty() || !is_valid_utf8(text)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "stop string {}: expected a UTF-8 text that is not empty",
                        result.patterns_.size());
    }
    std::vector<size_t> fallback(text.size(), 0);
    for (size_t n = 1; n < text.size(); ++n) {
      fallback[n] = step(text, fallback, fallback[n - 1], text[n]);
    }
    result.patterns_.push_back({text, std::move(fallback)});
  }
  return result;
}

StopScanner::StopScanner(StopStrings strings, bool include_stop)
    : strings_(std::move(strings)),
      include_stop_(include_stop),
      matched_(strings_.patterns_.size(), 0) {}

const std::string* StopScanner::advance(char byte) {
  const std::string* longest = nullptr;
  for (size_t i = 0; i < matched_.size(); ++i) {
    const StopStrings::Pattern& pattern = strings_.patterns_[i];
    matched_[i] = step(pattern.text, pattern.fallback, matched_[i], byte);
    if (matched_[i] < pattern.text.size()) continue;
    if (longest == nullptr || longest->size() < matched_[i]) longest = &pattern.text;
  }
  return longest;
}

TextDelta StopScanner::push(std::string_view chunk) {
  if (stopped_) return {"", true};
  for (size_t i = 0; i < chunk.size(); ++i) {
    const std::string* stop = advance(chunk[i]);
    if (stop == nullptr) continue;
    stopped_ = true;
    std::string text = std::move(held_);
    text += chunk.substr(0, i + 1);
    if (!include_stop_) text.resize(text.size() - stop->size());
    return {std::move(text), true, *stop};
  }
  const size_t held_bytes =
      matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
  std::string text = std::move(held_);
  text += chunk;
  held_ = text.substr(text.size() - held_bytes);
  text.resize(text.size() - held_bytes);
  return {std::move(text), false};
}

TextDelta StopScanner::finish() {
  if (stopped_) return {"", true};
  return {std::exchange(held_, {}), false};
}

TextDelta TextStream::finish() {
  TextDelta last = scanner_.push(detokenizer_.finish());
  TextDelta rest = scanner_.finish();
  return {last.text + rest.text, rest.stopped, std::move(last.stop)};
}

}  // namespace ultraspeed::text
