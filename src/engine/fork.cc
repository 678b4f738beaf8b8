// What one slot's text takes over from another's: forks, prefixes, and copies that keep prefixes.
// Pages that they fill are shared, for nobody writes them again; the page in which the common part
// ends, and the rings, are copied.
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/program_engine.h"

namespace ultraspeed::engine {

Result<SessionId> ProgramEngine::fork(SessionId session, uint64_t seed) {
  if (failure_) return tl::unexpected(*failure_);
  const auto from_slot = slot_of(session);
  if (!from_slot) {
    return make_error(ErrorCode::kNotFound,
                      "session {} is not active; a fork is made before its source ends", session);
  }
  US_TRY(check_may_enter());
  const Session& from = *sessions_[*from_slot];
  std::optional<PrefixSource> source;
  const uint32_t num_positions = from.num_forkable(prefix_rules_.ring_slack);
  if (num_positions > 0) {
    source = prefix_rules_.source(*from_slot, num_positions, from.held().num_written);
  }
  KvPageTable pages(&kv_pages_, page_positions_);
  US_ASSIGN(source, reserve(source, from.prompt().size() + 1, &pages));
  GenerationParams params = from.params();
  params.sampling.seed = seed;
  params.num_prompt_logprobs.reset();
  const SessionId fork = add_session(take_slot(), from.prompt(), params, std::move(pages)).id();
  US_TRY(enter(fork, source));
  return fork;
}

const KvPageTable& ProgramEngine::page_table_of(uint32_t slot) const {
  return sessions_[slot] ? sessions_[slot]->page_table() : prefixes_.find(slot)->pages;
}

// Gives a slot, whose pages these are, what it does not share with the source.
Status ProgramEngine::copy_caches(const PrefixSource& source, uint32_t to_slot,
                                  std::span<const uint32_t> to_pages) {
  std::vector<std::pair<uint32_t, uint32_t>> pages;
  if (page_positions_ != 0 && source.num_positions % page_positions_ != 0) {
    const uint32_t last = source.num_positions / page_positions_;
    pages.emplace_back(page_table_of(source.slot).pages()[last], to_pages[last]);
  }
  Status status = executor_->copy_cache({.from_sequence = source.slot,
                                         .to_sequence = to_slot,
                                         .pages = pages,
                                         .ring_end = source.num_positions,
                                         .ring_skipped = source.ring_skipped});
  if (!status) return fail(std::move(status).error());
  return {};
}

// Before a step of `count` columns of a session: keeps what its rings hold as a prefix if that is
// worth it and they are about to lose it.
Status ProgramEngine::keep_prefix(uint32_t slot, uint32_t count) {
  Session& session = *sessions_[slot];
  if (!session.loses_mark(count, prefix_rules_)) return {};
  const HeldText held = session.held();
  const PrefixSource source{slot, static_cast<uint32_t>(held.tokens.size()), held.num_written};
  KvPageTable pages(&kv_pages_, page_positions_);
  pages.share(session.page_table(), source.num_positions);
  if (!grow(source.num_positions, &pages)) return {};  // sessions have all pages
  const uint32_t to_slot = take_slot();
  US_TRY(copy_caches(source, to_slot, pages.pages()));
  prefixes_.insert(to_slot, {std::string(held.domain),
                             {held.tokens.begin(), held.tokens.end()},
                             held.num_written,
                             std::move(pages),
                             held.text_id});
  return {};
}

}  // namespace ultraspeed::engine
