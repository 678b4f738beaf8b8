// The masks of a grammar's states for a vocabulary, made when they are first asked for. Whether a
// token may come next often depends on the state alone. Where it ends the state's rule and goes on,
// it depends on the state that the rule returns to: there is a mask for each such pair, and so on
// up the stack for tokens that end several rules.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <utility>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/plain_runs.h"
#include "grammar/stacks.h"
#include "grammar/vocabulary.h"

namespace ultraspeed::grammar {

// What a state allows below some states that were returned from, the newest first.
struct MaskEntry {
  std::vector<uint64_t> words;  // the allowed tokens as a mask, or
  std::vector<int32_t> tokens;  // as a list, when that is shorter
  std::vector<uint32_t> exits;  // nodes of the vocabulary's tree at which the rule may end
  bool is_kept = false;         // by the table
  // Entries of the states that the rule returned to; guarded by the table's mutex.
  mutable std::vector<std::pair<StateId, std::unique_ptr<const MaskEntry>>> returns;

  size_t num_bytes() const;
};

struct MaskTableOptions {
  // Masks beyond are computed each time. A mask of many tokens takes vocabulary size / 8 bytes.
  size_t max_bytes = 64 << 20;
};

// Thread-safe. REQUIRES: grammar and vocabulary outlive it.
class MaskTable {
 public:
  MaskTable(const Grammar& grammar, const Vocabulary& vocabulary,
            const MaskTableOptions& options = {});
  ~MaskTable();
  MaskTable(const MaskTable&) = delete;
  MaskTable& operator=(const MaskTable&) = delete;

  const Grammar& grammar() const { return grammar_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t num_bytes() const { return num_bytes_; }

  // Makes the masks of the states that allow many tokens, which take longest, and of those that
  // they may return to, until the time is over: a good moment is while the prompt is computed.
  // Others are made as they are needed.
  void prepare(std::chrono::microseconds max_time = std::chrono::milliseconds(500));

  // Adds to the mask what may follow the items.
  void add_allowed(const Stacks& stacks, std::span<const Item> items, std::span<uint64_t> words);

 private:
  using Entries = std::vector<std::unique_ptr<MaskEntry>>;

  const MaskEntry& find(const MaskEntry* below, StateId state, Entries* unkept);
  const MaskEntry* find_known(const MaskEntry* below, StateId state) const;
  std::unique_ptr<MaskEntry> make_entry(const MaskEntry* below, StateId state) const;

  const Grammar& grammar_;
  const Vocabulary& vocabulary_;
  const MaskTableOptions options_;
  const std::vector<PlainRun> runs_;    // [states]
  const std::vector<StateId> classes_;  // [states], by the longest token
  mutable std::shared_mutex mutex_;
  std::vector<std::unique_ptr<const MaskEntry>> entries_;  // [classes]; null: not yet
  std::atomic<size_t> num_bytes_ = 0;
};

}  // namespace ultraspeed::grammar
