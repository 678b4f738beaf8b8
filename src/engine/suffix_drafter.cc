#include "engine/suffix_drafter.h"

#include <algorithm>

namespace ultraspeed::engine {
namespace {

// Of the last kMinMatch tokens. Runs that share a hash are told apart by match_length().
uint64_t hash_of_end(std::span<const int32_t> tokens) {
  uint64_t hash = 0;
  for (const int32_t id : tokens.last(SuffixDrafter::kMinMatch)) {
    hash = (hash ^ static_cast<uint32_t>(id)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return hash;
}

// How many tokens before `end` equal the text's last ones.
uint32_t match_length(std::span<const int32_t> tokens, uint32_t end) {
  const uint32_t most = std::min(end, SuffixDrafter::kMaxMatch);
  uint32_t length = 0;
  while (length < most && tokens[end - 1 - length] == tokens[tokens.size() - 1 - length]) ++length;
  return length;
}

}  // namespace

void SuffixDrafter::propose(std::span<const int32_t> tokens, uint32_t limit,
                            std::vector<int32_t>* drafts) {
  judge_proposal(tokens);
  if (tokens.size() < kMinMatch) return;
  add_to_index(tokens);
  const auto found = newest_.find(hash_of_end(tokens));
  uint32_t end = found == newest_.end() ? 0 : found->second;
  uint32_t best_end = 0;
  uint32_t best_length = needed_match_ - 1;
  for (uint32_t i = 0; i < kMaxCandidates && end != 0; ++i, end = older_[end]) {
    const uint32_t length = match_length(tokens, end);
    if (length <= best_length) continue;
    best_length = length;
    best_end = end;
  }
  const uint32_t count = std::min(limit, best_length - (needed_match_ - 1));
  const size_t first_draft = drafts->size();
  for (uint32_t i = 0; i < count; ++i) {
    // Past the text's end a copy goes on with itself: the text is a loop.
    const size_t from = size_t{best_end} + i;
    drafts->push_back(from < tokens.size() ? tokens[from]
                                           : (*drafts)[first_draft + from - tokens.size()]);
  }
  proposed_at_ = tokens.size();
  proposed_.assign(drafts->begin() + static_cast<ptrdiff_t>(first_draft), drafts->end());
}

// Against what has come since, as far as that goes: columns may have been short.
void SuffixDrafter::judge_proposal(std::span<const int32_t> tokens) {
  const auto since = tokens.subspan(std::min(proposed_at_, tokens.size()));
  const size_t count = std::min(since.size(), proposed_.size());
  if (count > 0) {
    const auto come = since.first(count);
    if (come.front() != proposed_.front()) {
      needed_match_ = std::min(needed_match_ + kMatchStep, kMaxMatch);
    } else if (std::ranges::equal(come, std::span(proposed_).first(count))) {
      needed_match_ = std::max(needed_match_ - kMatchStep, kMinMatch);
    }
  }
  proposed_.clear();
}

// All ends but the text's own, which nothing follows yet.
void SuffixDrafter::add_to_index(std::span<const int32_t> tokens) {
  const auto known = static_cast<uint32_t>(std::max<size_t>(older_.size(), kMinMatch));
  older_.resize(tokens.size(), 0);
  for (uint32_t end = known; end < tokens.size(); ++end) {
    uint32_t& newest = newest_[hash_of_end(tokens.first(end))];
    older_[end] = newest;
    newest = end;
  }
}

}  // namespace ultraspeed::engine
