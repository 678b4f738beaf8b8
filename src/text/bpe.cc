// The merge loop: a heap of candidate pairs over a linked list of symbols. A candidate whose pair
// has changed since it was pushed is recognised by its result and dropped.
#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();  // no symbol

// The finalizer of MurmurHash3: a bijection that spreads neighbouring ids.
uint64_t mix(uint64_t key) {
  key = (key ^ (key >> 33)) * 0xff51afd7ed558ccdULL;
  key = (key ^ (key >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return key ^ (key >> 33);
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_tokens, std::span<const BpeMerge> merges)
    : byte_tokens_(byte_tokens), rules_(std::bit_ceil(2 * merges.size() + 2)) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const BpeMerge& merge = merges[rank];
    US_CHECK(merge.left >= 0 && merge.right >= 0 && merge.result >= 0, "rank {}", rank);
    const uint64_t pair = make_pair_key(merge.left, merge.right);
    slot_of(pair) = {pair, static_cast<uint32_t>(rank), merge.result};
  }
}

Bpe::Rule& Bpe::slot_of(uint64_t pair) {
  const size_t mask = rules_.size() - 1;
  size_t slot = mix(pair) & mask;
  while (rules_[slot].pair != kEmptySlot && rules_[slot].pair != pair) slot = (slot + 1) & mask;
  return rules_[slot];
}

const Bpe::Rule* Bpe::find_rule(int32_t left, int32_t right) const {
  const Rule& rule = const_cast<Bpe*>(this)->slot_of(make_pair_key(left, right));
  return rule.pair == kEmptySlot ? nullptr : &rule;
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const {
  if (const auto known = scratch.cache_.find(word); known != scratch.cache_.end()) {
    out.insert(out.end(), known->second.begin(), known->second.end());
    return;
  }
  merge_word(word, scratch);
  const size_t begin = out.size();
  for (const Scratch::Symbol& symbol : scratch.symbols_) {
    if (symbol.token != kNoToken) out.push_back(symbol.token);
  }
  if (word.size() <= Scratch::kMaxCachedWordBytes &&
      scratch.cache_.size() < Scratch::kMaxCachedWords) {
    scratch.cache_.emplace(
        word, std::vector<int32_t>(out.begin() + static_cast<ptrdiff_t>(begin), out.end()));
  }
}

// Leaves the word's tokens in scratch.symbols_.
void Bpe::merge_word(std::string_view word, Scratch& scratch) const {
  US_CHECK(word.size() < kEnd);
  auto& symbols = scratch.symbols_;
  auto& candidates = scratch.candidates_;
  const auto size = static_cast<uint32_t>(word.size());
  symbols.resize(size);
  candidates.clear();
  for (uint32_t i = 0; i < size; ++i) {
    const int32_t token = byte_tokens_[static_cast<uint8_t>(word[i])];
    US_CHECK(token != kNoToken, "byte {}", static_cast<uint8_t>(word[i]));
    symbols[i] = {token, i == 0 ? kEnd : i - 1, i + 1 == size ? kEnd : i + 1};
  }
  for (uint32_t i = 0; i < size; ++i) push_candidate(i, scratch);
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end());
    const Scratch::Candidate best = candidates.back();
    candidates.pop_back();
    Scratch::Symbol& left = symbols[best.position];
    if (left.token == kNoToken || left.next == kEnd) continue;
    Scratch::Symbol& right = symbols[left.next];
    const Rule* rule = find_rule(left.token, right.token);
    if (rule == nullptr || rule->result != best.result) continue;
    left.token = best.result;
    left.next = right.next;
    right.token = kNoToken;
    if (left.next != kEnd) symbols[left.next].previous = best.position;
    if (left.previous != kEnd) push_candidate(left.previous, scratch);
    push_candidate(best.position, scratch);
  }
}

// Pushes the pair that begins at this position, if a rule merges it.
void Bpe::push_candidate(uint32_t position, Scratch& scratch) const {
  const Scratch::Symbol& left = scratch.symbols_[position];
  if (left.next == kEnd) return;
  const Rule* rule = find_rule(left.token, scratch.symbols_[left.next].token);
  if (rule == nullptr) return;
  scratch.candidates_.push_back({rule->rank, position, rule->result});
  std::push_heap(scratch.candidates_.begin(), scratch.candidates_.end());
}

}  // namespace ultraspeed::text
