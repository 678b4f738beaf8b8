// Sessions get a slot, pages, and what the caches hold of their texts already.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/params.h"
#include "engine/program_engine.h"

namespace ultraspeed::engine {

Result<SessionId> ProgramEngine::start(std::span<const int32_t> prompt,
                                       const GenerationParams& params) {
  if (failure_) return tl::unexpected(*failure_);
  US_TRY(check_token_ids("the prompt", prompt, settings_.vocab_size));
  US_TRY(check_params(params, settings_.vocab_size));
  US_TRY(check_fits(prompt.size()));
  US_TRY(check_may_enter());
  const PrefixSearch search = search_prefix(params, prompt);
  KvPageTable pages(&kv_pages_, page_positions_);
  const auto source = reserve(search.best(), prompt.size() + 1, &pages);
  if (!source) return tl::unexpected(source.error());
  Session& session = add_session(take_slot(), prompt, params, std::move(pages));
  mark(search, &session);
  US_TRY(enter(session.id(), *source));
  return session.id();
}

Status ProgramEngine::check_fits(size_t prompt_size) const {
  if (prompt_size >= settings_.max_context) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "the prompt has {} tokens, expected at most {}: the context has {} positions, "
        "and one is for the output",
        prompt_size, settings_.max_context - 1, settings_.max_context);
  }
  const uint32_t num_needed =
      num_pages_for(static_cast<uint32_t>(prompt_size) + 1, page_positions_);
  if (num_needed <= kv_pages_.num_pages()) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "a prompt of {} tokens needs {} KV pages, but there are {}", prompt_size,
                    num_needed, kv_pages_.num_pages());
}

// New sessions wait behind those that lost their pages, which could else wait for ever.
Status ProgramEngine::check_may_enter() const {
  if (!preempted_.empty()) {
    return make_error(ErrorCode::kOutOfMemory,
                      "{} sessions wait for KV pages that others took; wait until a session ends",
                      preempted_.size());
  }
  const size_t max_sessions = sessions_.size() - settings_.num_cached_prefixes;
  if (num_sessions() < max_sessions) return {};
  return make_error(ErrorCode::kOutOfMemory,
                    "all {} sessions are in use; wait until one ends or raise max_sessions",
                    max_sessions);
}

// What all slots hold of a text; nothing for one of whose prompt all is to be computed.
PrefixSearch ProgramEngine::search_prefix(const GenerationParams& params,
                                          std::span<const int32_t> tokens) const {
  PrefixSearch search(params.cache_domain, tokens, prefix_rules_);
  if (settings_.num_cached_prefixes == 0 || params.num_prompt_logprobs) return search;
  prefixes_.search(&search);
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (sessions_[slot]) search.look_at(slot, sessions_[slot]->held());
  }
  return search;
}

// Makes room for positions [0, num_positions) of a table, at the cost of cached prefixes; false,
// and none dropped, where all of them would not be enough.
bool ProgramEngine::grow(size_t num_positions, KvPageTable* pages, std::optional<uint32_t> kept) {
  const auto count = static_cast<uint32_t>(num_positions);
  const size_t num_missing = num_pages_for(count, page_positions_) - pages->pages().size();
  if (pages->grow(count)) return true;
  if (num_missing > kv_pages_.num_available()) return false;
  while (!pages->grow(count)) {
    if (!prefixes_.evict_oldest(kept)) return false;
  }
  return true;
}

// Room for a text, its first pages those of the source. Without a source where that prefix itself
// has to go.
Result<std::optional<PrefixSource>> ProgramEngine::reserve(std::optional<PrefixSource> source,
                                                           size_t num_positions,
                                                           KvPageTable* pages) {
  size_t num_shared = 0;
  if (source) {
    prefixes_.touch(source->slot);
    pages->share(page_table_of(source->slot), source->num_positions);
    num_shared = pages->pages().size();
    if (grow(num_positions, pages, source->slot)) return source;
    pages->clear();
  }
  if (grow(num_positions, pages)) return std::nullopt;
  return make_error(
      ErrorCode::kOutOfMemory,
      "a prompt of {} tokens needs {} KV pages, but {} of {} are free; wait until a session ends",
      num_positions - 1,
      num_pages_for(static_cast<uint32_t>(num_positions), page_positions_) - num_shared,
      kv_pages_.num_available(), kv_pages_.num_pages());
}

// A slot for what check_may_enter() has let in, or for a prefix: there are as many as both may be.
uint32_t ProgramEngine::take_slot() {
  for (;;) {
    for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
      if (!sessions_[slot] && prefixes_.find(slot) == nullptr) return slot;
    }
    const bool has_room = prefixes_.evict_oldest();
    US_CHECK(has_room, "{} slots, all of them sessions", sessions_.size());
  }
}

Session& ProgramEngine::add_session(uint32_t slot, std::span<const int32_t> prompt,
                                    const GenerationParams& params, KvPageTable pages) {
  auto drafter = make_host_drafter(settings_.drafter, params, static_cast<uint32_t>(prompt.size()),
                                   settings_.vocab_size);
  return sessions_[slot].emplace(next_id_++, prompt, params, settings_.max_context,
                                 settings_.vocab_size, std::move(pages), std::move(drafter));
}

// Where other texts are likely to go on from this one: at the end of its prompt (or shortly before
// it, where chat templates differ between a turn and its history), and where an earlier prompt went
// another way, if that was too long ago for its rings.
void ProgramEngine::mark(const PrefixSearch& search, Session* session) const {
  if (settings_.num_cached_prefixes == 0) return;
  const uint32_t num_taken = search.best() ? search.best()->num_positions : 0;
  const uint32_t fork = search.num_common() - std::min(search.num_common(), num_mtp_heads_);
  if (fork >= num_taken + programs_[kPrefill].width) session->add_mark(fork);
  const auto prompt_size = static_cast<uint32_t>(session->prompt().size());
  session->add_mark(prompt_size - std::min(prompt_size, prefix_rules_.ring_slack / 2));
}

// A session with its pages takes over what the source holds, and its turn comes.
Status ProgramEngine::enter(SessionId id, std::optional<PrefixSource> source) {
  const uint32_t slot = *slot_of(id);
  Session& session = *sessions_[slot];
  if (source) {
    session.adopt(source->num_positions, source->num_written);
  } else {
    session.adopt(0, 0);
  }
  if (source && session.num_pending() == 1) {
    scheduler_.admit_decoding(slot);
  } else {
    scheduler_.admit(slot);
  }
  return source ? copy_caches(*source, slot, session.pages()) : Status();
}

// What has been computed since a session was let in, for the sessions before it, may be more of its
// text than what was there then: of the samples of one prompt the first computes it.
Status ProgramEngine::look_again(uint32_t slot) {
  Session& session = *sessions_[slot];
  if (!session.is_untouched()) return {};
  const auto source = search_prefix(session.params(), session.tokens()).best();
  if (!source || source->num_positions <= session.num_cached()) return {};
  const size_t num_positions = session.tokens().size() + 1;
  KvPageTable pages(&kv_pages_, page_positions_);
  pages.share(page_table_of(source->slot), source->num_positions);
  session.lose_pages();
  const bool has_room = grow(num_positions, &pages, source->slot);
  US_CHECK(has_room, "{} positions had room before {} of them were shared", num_positions,
           source->num_positions);
  session.page_table() = std::move(pages);
  session.adopt(source->num_positions, source->num_written);
  prefixes_.touch(source->slot);
  return copy_caches(*source, slot, session.pages());
}

}  // namespace ultraspeed::engine
