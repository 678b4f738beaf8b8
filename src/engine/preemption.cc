// When no KV page is free, the session that came last gives up all of its pages to those that came
// before. It keeps everything else and is computed again when there is room: its text is a function
// of what it keeps. The session that came first always goes on, so that all end some time.
#include <algorithm>
#include <optional>

#include "engine/program_engine.h"

namespace ultraspeed::engine {

// Room for a session's next `count` tokens, at the cost of cached prefixes and then of sessions
// that came later. It may be itself that gives up; kNone: it has all pages, and they are not
// enough.
ProgramEngine::Room ProgramEngine::make_room(uint32_t slot, uint32_t count) {
  Session& session = *sessions_[slot];
  while (!grow(session.num_cached() + count, &session.page_table())) {
    const std::optional<uint32_t> victim = youngest_with_pages();
    const bool is_alone = !victim || (*victim == slot && num_sessions_with_pages() == 1);
    if (is_alone) return Room::kNone;
    preempt(*victim);
    if (*victim == slot) return Room::kLater;
  }
  return Room::kNow;
}

std::optional<uint32_t> ProgramEngine::youngest_with_pages() const {
  std::optional<uint32_t> youngest;
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (!sessions_[slot] || sessions_[slot]->pages().empty()) continue;
    if (!youngest || sessions_[slot]->id() > sessions_[*youngest]->id()) youngest = slot;
  }
  return youngest;
}

uint32_t ProgramEngine::num_sessions_with_pages() const {
  return static_cast<uint32_t>(std::ranges::count_if(
      sessions_, [](const auto& session) { return session && !session->pages().empty(); }));
}

void ProgramEngine::preempt(uint32_t slot) {
  scheduler_.remove(slot);
  sessions_[slot]->lose_pages();
  const auto came_before = [&](uint32_t other) {
    return sessions_[other]->id() < sessions_[slot]->id();
  };
  preempted_.insert(std::ranges::find_if_not(preempted_, came_before), slot);
  ++num_preemptions_;
}

// Sessions that lost their pages go on, those that came first before others, where there is room
// for all of their text and a page more for everybody who runs, so that they need not go again at
// once. One that all pages are not enough for ends.
Status ProgramEngine::resume(std::vector<StepEvent>* events) {
  while (!preempted_.empty()) {
    const uint32_t slot = preempted_.front();
    Session& session = *sessions_[slot];
    const size_t num_positions = session.tokens().size() + 1;
    const auto num_running = static_cast<uint32_t>(num_sessions() - preempted_.size());
    const auto best = search_prefix(session.params(), session.tokens()).best();
    const uint32_t num_spare = num_running * page_positions_;
    KvPageTable pages(&kv_pages_, page_positions_);
    const auto source = reserve(best, num_positions + num_spare, &pages);
    if (!source && num_running > 0) return {};
    preempted_.erase(preempted_.begin());
    if (!source) {
      end_without_token(slot, FinishReason::kLength, events);
      continue;
    }
    pages.shrink(static_cast<uint32_t>(num_positions));
    session.page_table() = std::move(pages);
    US_TRY(enter(session.id(), *source));
  }
  return {};
}

}  // namespace ultraspeed::engine
