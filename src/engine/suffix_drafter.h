// Looks for the last tokens of a text further up in the same text, and proposes what followed them
// there: code that is edited, quotes, lists and loops repeat themselves.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/host_drafter.h"

namespace ultraspeed::engine {

// An index from every run of kMinMatch tokens to where it ends in the text, newest first. Each
// token enters it once, and a proposal looks at kMaxCandidates places: linear time in all.
class SuffixDrafter final : public HostDrafter {
 public:
  // Shorter matches are chance: "of the" says little about what comes.
  static constexpr uint32_t kMinMatch = 3;
  // What is asked for at first, and how it changes: where texts do not repeat themselves, matches
  // of three are chance, too, and each wrong draft costs a column. A proposal whose first token was
  // wrong asks for more, one that was right as far as it went for less.
  static constexpr uint32_t kFirstMatch = 4;
  static constexpr uint32_t kMatchStep = 2;
  static constexpr uint32_t kMaxMatch = 32;  // longer ones count as this long
  static constexpr uint32_t kMaxCandidates = 8;

  // Of the places with the longest match the newest; a token for each by which the match is longer
  // than what is asked for, and one.
  void propose(std::span<const int32_t> tokens, uint32_t limit,
               std::vector<int32_t>* drafts) override;

  // The length asked for by the last proposal, kMinMatch to kMaxMatch.
  uint32_t needed_match() const { return needed_match_; }

 private:
  void add_to_index(std::span<const int32_t> tokens);
  void judge_proposal(std::span<const int32_t> tokens);

  std::unordered_map<uint64_t, uint32_t> newest_;  // hash of a run -> where its newest copy ends
  std::vector<uint32_t> older_;  // [end]: where the copy before that one ends; 0: nowhere
  uint32_t needed_match_ = kFirstMatch;
  size_t proposed_at_ = 0;         // the text's size at the last proposal
  std::vector<int32_t> proposed_;  // what it was
};

}  // namespace ultraspeed::engine
