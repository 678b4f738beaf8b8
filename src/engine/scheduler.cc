#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::engine {

void RequestScheduler::admit(uint32_t slot) {
  prefilling_.push_back(slot);
}

void RequestScheduler::prompt_done(uint32_t slot) {
  US_CHECK(std::erase(prefilling_, slot) == 1, "slot {} has no prompt to prefill", slot);
  decoding_.push_back(slot);
}

void RequestScheduler::remove(uint32_t slot) {
  std::erase(prefilling_, slot);
  std::erase(decoding_, slot);
}

RequestScheduler::Turn RequestScheduler::next(uint32_t decode_width) {
  if (idle()) return {};
  if (decoding_.empty() || (!prefilling_.empty() && !decode_is_next_)) {
    decode_is_next_ = true;
    return {Phase::kPrefill, {prefilling_.front()}};
  }
  decode_is_next_ = false;
  const auto count = static_cast<ptrdiff_t>(std::min<size_t>(decoding_.size(), decode_width));
  const auto served_end = decoding_.begin() + count;
  Turn turn{Phase::kDecode, {decoding_.begin(), served_end}};
  std::rotate(decoding_.begin(), served_end, decoding_.end());
  return turn;
}

}  // namespace ultraspeed::engine
