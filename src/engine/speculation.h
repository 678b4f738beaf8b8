// What drafting was worth.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace ultraspeed::engine {

// The verify cycles of one session, or of many. The prefill's token is no part of a cycle, nor are
// tokens that a stop or a limit cut off.
class SpeculationStats {
 public:
  void add(const VerifyCycle& cycle) {
    ++num_cycles_;
    num_resident_ += cycle.is_resident ? 1 : 0;
    num_tokens_ += cycle.num_tokens;
    if (lengths_.size() < cycle.num_tokens) lengths_.resize(cycle.num_tokens);
    if (cycle.num_tokens > 0) ++lengths_[cycle.num_tokens - 1];
    if (positions_.size() < cycle.num_drafts) positions_.resize(cycle.num_drafts);
    for (uint32_t i = 0; i < cycle.num_drafts; ++i) {
      ++positions_[i].num_drafts;
      if (i < cycle.num_accepted) ++positions_[i].num_accepted;
    }
  }

  // The same where only the first num_taken tokens became output, as before a stop string, which
  // the engine does not know.
  void add(const VerifyCycle& cycle, uint32_t num_taken) {
    const uint32_t num_tokens = std::min(cycle.num_tokens, num_taken);
    add({cycle.num_drafts, std::min(cycle.num_accepted, num_tokens), num_tokens,
         cycle.is_resident});
  }

  void add(const SpeculationStats& other) {
    num_cycles_ += other.num_cycles_;
    num_resident_ += other.num_resident_;
    num_tokens_ += other.num_tokens_;
    if (lengths_.size() < other.lengths_.size()) lengths_.resize(other.lengths_.size());
    for (size_t i = 0; i < other.lengths_.size(); ++i) lengths_[i] += other.lengths_[i];
    if (positions_.size() < other.positions_.size()) positions_.resize(other.positions_.size());
    for (size_t i = 0; i < other.positions_.size(); ++i) {
      positions_[i].num_drafts += other.positions_[i].num_drafts;
      positions_[i].num_accepted += other.positions_[i].num_accepted;
    }
  }

  uint64_t num_cycles() const { return num_cycles_; }
  uint64_t num_resident() const { return num_resident_; }  // VerifyCycle::is_resident
  uint64_t num_tokens() const { return num_tokens_; }
  bool has_drafts() const { return !positions_.empty(); }

  // Tokens a cycle, the target's own included; 0 without cycles.
  double accepted_length() const { return ratio(num_tokens_, num_cycles_); }

  // [tokens - 1]: how many cycles gave so many tokens.
  std::span<const uint64_t> lengths() const { return lengths_; }

  // [tokens - 1]: the share of the cycles that gave so many tokens.
  std::vector<double> length_shares() const {
    std::vector<double> shares;
    for (const uint64_t count : lengths_) shares.push_back(ratio(count, num_cycles_));
    return shares;
  }

  // [draft position]: the share of the drafts there that were accepted.
  std::vector<double> acceptance() const {
    std::vector<double> shares;
    for (const Position& at : positions_) shares.push_back(ratio(at.num_accepted, at.num_drafts));
    return shares;
  }

 private:
  struct Position {
    uint64_t num_drafts = 0;
    uint64_t num_accepted = 0;
  };

  static double ratio(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  }

  uint64_t num_cycles_ = 0;
  uint64_t num_resident_ = 0;
  uint64_t num_tokens_ = 0;
  std::vector<uint64_t> lengths_;
  std::vector<Position> positions_;
};

}  // namespace ultraspeed::engine
