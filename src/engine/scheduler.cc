#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::engine {

void RequestScheduler::admit(uint32_t slot) {
  prefilling_.push_back(slot);
}

void RequestScheduler::admit_decoding(uint32_t slot) {
  decoding_.push_back(slot);
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
  // Where all are served, being first goes round.
  const auto next = served_end == decoding_.end() ? decoding_.begin() + 1 : served_end;
  std::rotate(decoding_.begin(), next, decoding_.end());
  return turn;
}

std::vector<uint32_t> share_columns(std::span<const uint32_t> wanted, uint32_t num_columns) {
  US_CHECK(wanted.size() <= num_columns, "{} sessions, {} columns", wanted.size(), num_columns);
  std::vector<uint32_t> shares(wanted.size(), 0);
  for (bool has_given = true; has_given;) {
    has_given = false;
    for (size_t i = 0; i < wanted.size() && num_columns > 0; ++i) {
      if (shares[i] == wanted[i]) continue;
      ++shares[i];
      --num_columns;
      has_given = true;
    }
  }
  return shares;
}

}  // namespace ultraspeed::engine
