// A column's likeliest tokens, for Nominate and for Propose, which merges what ranks nominate.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "cpu/ops/sample.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// The largest logits in order, of equals those that came first.
class Nominees {
 public:
  explicit Nominees(uint32_t capacity) : capacity_(capacity) {
    US_CHECK(capacity > 0 && capacity <= program::kMaxNominees, "{} nominees", capacity);
  }

  uint32_t size() const { return size_; }
  uint32_t id(uint32_t i) const { return ids_[i]; }
  bool is_full() const { return size_ == capacity_; }
  // REQUIRES: some.
  float least() const { return logits_[size_ - 1]; }

  void add(uint32_t id, float logit) {
    if (is_full() && !(logit > least())) return;
    uint32_t place = is_full() ? size_ - 1 : size_++;
    for (; place > 0 && logit > logits_[place - 1]; --place) {
      logits_[place] = logits_[place - 1];
      ids_[place] = ids_[place - 1];
    }
    logits_[place] = logit;
    ids_[place] = id;
  }

  // As they lie in a buffer, [2 * capacity]: ids, then logits. Empty places have the id kNoId.
  void store(uint32_t* words) const {
    for (uint32_t i = 0; i < capacity_; ++i) {
      words[i] = i < size_ ? ids_[i] : program::kNoId;
      words[capacity_ + i] = std::bit_cast<uint32_t>(i < size_ ? logits_[i] : 0.0F);
    }
  }

  void add_stored(const uint32_t* words) {
    for (uint32_t i = 0; i < capacity_ && words[i] != program::kNoId; ++i) {
      add(words[i], std::bit_cast<float>(words[capacity_ + i]));
    }
  }

 private:
  uint32_t capacity_, size_ = 0;
  std::array<uint32_t, program::kMaxNominees> ids_ = {};
  std::array<float, program::kMaxNominees> logits_ = {};
};

// The token that is drawn to follow a column alone.
inline Nominees drawn_nominee(std::span<const float> logits, const program::Column& before,
                              uint32_t capacity) {
  Nominees drawn(capacity);
  const uint32_t id = draw_draft(logits, before.position, before.sampling);
  drawn.add(id, logits[id]);
  return drawn;
}

}  // namespace ultraspeed::cpu
