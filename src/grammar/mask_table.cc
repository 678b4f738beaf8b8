// Entries are never changed or dropped once they are in the table, so readers keep pointers to them
// and hold the mutex only to look one up.
#include "grammar/mask_table.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base/check.h"
#include "grammar/mask_walk.h"
#include "grammar/state_classes.h"

namespace ultraspeed::grammar {
namespace {

constexpr size_t kManyFirstBytes = 32;  // a state that allows as many bytes allows many tokens

void add_entry(const MaskEntry& entry, std::span<uint64_t> words) {
  for (size_t i = 0; i < entry.words.size(); ++i) words[i] |= entry.words[i];
  for (const int32_t token : entry.tokens) {
    words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  }
}

template <class Value>
std::vector<Value> without_duplicates(std::vector<Value> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

}  // namespace

size_t MaskEntry::num_bytes() const {
  return sizeof(*this) + words.size() * sizeof(words[0]) + tokens.size() * sizeof(tokens[0]) +
         exits.size() * sizeof(exits[0]);
}

MaskTable::MaskTable(const Grammar& grammar, const Vocabulary& vocabulary,
                     const MaskTableOptions& options)
    : grammar_(grammar),
      vocabulary_(vocabulary),
      options_(options),
      runs_(plain_runs(grammar)),
      classes_(state_classes(grammar, vocabulary.max_token_bytes())) {
  entries_.resize(grammar.num_states());
}

MaskTable::~MaskTable() = default;

void MaskTable::prepare(std::chrono::microseconds max_time) {
  const auto end = std::chrono::steady_clock::now() + max_time;
  std::map<StateId, std::set<StateId>> returns;  // by a rule's start; classes
  returns[grammar_.start()];
  for (StateId state = 0; state < grammar_.num_states(); ++state) {
    for (const Grammar::Call& call : grammar_.calls(state)) {
      std::set<StateId>& of_rule = returns[call.start];
      if (!call.is_tail) of_rule.insert(classes_[call.return_state]);
    }
  }
  Entries unkept;
  const std::set<StateId>* of_rule = nullptr;
  for (StateId state = 0; state < grammar_.num_states(); ++state) {
    if (const auto rule = returns.find(state); rule != returns.end()) of_rule = &rule->second;
    if (grammar_.first_bytes(state).size() < kManyFirstBytes || of_rule == nullptr) continue;
    const MaskEntry& entry = find(nullptr, classes_[state], &unkept);
    if (!entry.is_kept || std::chrono::steady_clock::now() > end) return;
    if (entry.exits.empty()) continue;
    for (const StateId caller : *of_rule) {
      find(&entry, caller, &unkept);
      if (std::chrono::steady_clock::now() > end) return;
    }
  }
}

const MaskEntry* MaskTable::find_known(const MaskEntry* below, StateId state) const {
  if (below == nullptr) return entries_[state].get();
  const auto place = std::find_if(below->returns.begin(), below->returns.end(),
                                  [&](const auto& known) { return known.first == state; });
  return place == below->returns.end() ? nullptr : place->second.get();
}

// An entry that is not kept lives in *unkept.
const MaskEntry& MaskTable::find(const MaskEntry* below, StateId state, Entries* unkept) {
  {
    const std::shared_lock lock(mutex_);
    if (const MaskEntry* known = find_known(below, state)) return *known;
  }
  std::unique_ptr<MaskEntry> made = make_entry(below, state);
  const std::unique_lock lock(mutex_);
  if (const MaskEntry* known = find_known(below, state)) return *known;  // another thread's
  const size_t num_bytes = made->num_bytes();
  made->is_kept =
      (below == nullptr || below->is_kept) && num_bytes_ + num_bytes <= options_.max_bytes;
  if (!made->is_kept) return *unkept->emplace_back(std::move(made));
  num_bytes_ += num_bytes;
  const MaskEntry& entry = *made;
  if (below == nullptr) {
    entries_[state] = std::move(made);
  } else {
    below->returns.emplace_back(state, std::move(made));
  }
  return entry;
}

std::unique_ptr<MaskEntry> MaskTable::make_entry(const MaskEntry* below, StateId state) const {
  MaskWalk walk(grammar_, vocabulary_, runs_);
  if (below == nullptr) {
    walk.run(state, 0);
  } else {
    for (const uint32_t exit : below->exits) walk.run(state, exit);
  }
  auto entry = std::make_unique<MaskEntry>();
  entry->exits = without_duplicates(walk.exits());
  const std::vector<int32_t> walked = without_duplicates(walk.tokens());
  const bool has_plain =
      below == nullptr && runs_[state].is_exact && runs_[state].num_characters > 0;
  if (!has_plain && walked.size() * 32 < vocabulary_.size()) {
    entry->tokens = walked;
  } else {
    const uint32_t num_plain = has_plain ? runs_[state].num_characters : 0;
    const std::span<const uint64_t> plain = vocabulary_.plain_mask(num_plain);
    entry->words.assign(plain.begin(), plain.end());
    for (const int32_t token : walked) {
      entry->words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
    }
  }
  return entry;
}

void MaskTable::add_allowed(const Stacks& stacks, std::span<const Item> items,
                            std::span<uint64_t> words) {
  US_CHECK(words.size() >= mask_words(vocabulary_.size()), "{} words for {} tokens", words.size(),
           vocabulary_.size());
  struct Visit {
    const MaskEntry* below;
    Item item;
    bool operator==(const Visit&) const = default;
  };
  Entries unkept;
  std::vector<Visit> visits;
  const auto add_visit = [&](const MaskEntry* below, Item item) {
    const Visit visit{below, item};
    if (std::find(visits.begin(), visits.end(), visit) == visits.end()) visits.push_back(visit);
  };
  for (const Item& item : items) add_visit(nullptr, item);
  for (size_t i = 0; i < visits.size(); ++i) {
    const auto [below, item] = visits[i];
    const MaskEntry* entry = below;
    if (!grammar_.is_exhausted(item.state)) {
      entry = &find(below, classes_[item.state], &unkept);
      add_entry(*entry, words);
      if (entry->exits.empty()) continue;
    }
    stacks.for_each_return(item.node, [&](Item caller) { add_visit(entry, caller); });
  }
}

}  // namespace ultraspeed::grammar
