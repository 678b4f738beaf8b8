#include "train/acceptance.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::train {

double Acceptance::accepted_length() const {
  if (num_cycles == 0) return 0;
  return static_cast<double>(num_tokens) / static_cast<double>(num_cycles);
}

double Acceptance::share(size_t place) const {
  if (num_cycles == 0) return 0;
  return static_cast<double>(accepted_places.at(place)) / static_cast<double>(num_cycles);
}

void Acceptance::add(const Acceptance& other) {
  num_cycles += other.num_cycles;
  num_tokens += other.num_tokens;
  accepted_places.resize(std::max(accepted_places.size(), other.accepted_places.size()));
  for (size_t i = 0; i < other.accepted_places.size(); ++i) {
    accepted_places[i] += other.accepted_places[i];
  }
}

Acceptance walk(std::span<const uint8_t> loss_mask, std::span<const uint8_t> is_right,
                uint32_t block_size) {
  const size_t num_masks = block_size - 1;
  Acceptance result;
  result.accepted_places.resize(num_masks);
  size_t anchor_index = 0, next = 0;  // of the possible anchors; the position of the next cycle's
  for (size_t at = 0; at + 1 < loss_mask.size(); ++at) {
    if (loss_mask[at] == 0 || loss_mask[at + 1] == 0) continue;
    const bool begins_run = at == 0 || loss_mask[at - 1] == 0;
    if (begins_run || at == next) {
      US_CHECK((anchor_index + 1) * num_masks <= is_right.size(), "{} drafts for anchor {}",
               is_right.size(), anchor_index);
      const auto drafts = is_right.subspan(anchor_index * num_masks, num_masks);
      size_t accepted = 0, tokens = 1;
      while (accepted < num_masks && drafts[accepted] != 0 && at + tokens < loss_mask.size() &&
             loss_mask[at + tokens] != 0) {
        ++result.accepted_places[accepted];
        ++accepted;
        ++tokens;
      }
      // The target's token after the drafts, unless the run has ended with them.
      const bool has_ended = at + tokens >= loss_mask.size() || loss_mask[at + tokens] == 0;
      if (has_ended) --tokens;
      ++result.num_cycles;
      result.num_tokens += tokens;
      next = at + tokens;
    }
    ++anchor_index;
  }
  US_CHECK(anchor_index * num_masks == is_right.size(), "{} drafts for {} anchors", is_right.size(),
           anchor_index);
  return result;
}

}  // namespace ultraspeed::train
