// Forks: sessions that take over another's prompt from the caches. Pages that the prompt fills are
// shared, for nobody writes them again; the page in which it ends, and the rings, are copied.
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
  US_ASSIGN(const uint32_t slot, find_free_slot());
  const Session& from = *sessions_[*from_slot];
  const uint32_t num_positions = from.num_forkable(ring_slack_);
  KvPageTable pages(&kv_pages_, page_positions_);
  pages.share(from.page_table(), num_positions);
  US_TRY(reserve_prompt(from.prompt().size(), &pages));
  GenerationParams params = from.params();
  params.sampling.seed = seed;
  Session& fork = add_session(slot, from.prompt(), params, std::move(pages));
  fork.adopt(from, num_positions);
  if (fork.num_pending() == 1) {
    scheduler_.admit_decoding(slot);
  } else {
    scheduler_.admit(slot);
  }
  if (num_positions > 0) US_TRY(copy_caches(*from_slot, slot, num_positions));
  return fork.id();
}

Status ProgramEngine::copy_caches(uint32_t from_slot, uint32_t to_slot, uint32_t num_positions) {
  std::vector<std::pair<uint32_t, uint32_t>> pages;
  if (page_positions_ != 0 && num_positions % page_positions_ != 0) {
    const uint32_t last = num_positions / page_positions_;
    pages.emplace_back(sessions_[from_slot]->pages()[last], sessions_[to_slot]->pages()[last]);
  }
  Status status =
      executor_->copy_cache({.from_sequence = from_slot, .to_sequence = to_slot, .pages = pages});
  if (!status) return fail(std::move(status).error());
  return {};
}

}  // namespace ultraspeed::engine
