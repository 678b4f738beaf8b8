#include "engine/program_engine.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/params.h"

namespace ultraspeed::engine {

Result<std::unique_ptr<ProgramEngine>> ProgramEngine::make(
    std::vector<program::Program> programs, std::unique_ptr<program::Executor> executor,
    const EngineSettings& settings, const program::WeightReader& read_weight) {
  US_CHECK(programs.size() == 2 || programs.size() == 3, "{} programs", programs.size());
  US_CHECK(programs[kDecode].num_mtp_heads() <= programs[kPrefill].width, "{} MTP heads, width {}",
           programs[kDecode].num_mtp_heads(), programs[kPrefill].width);
  US_TRY(executor->load(programs, settings.cache, read_weight));
  return std::unique_ptr<ProgramEngine>(
      new ProgramEngine(std::move(programs), std::move(executor), settings));
}

ProgramEngine::ProgramEngine(std::vector<program::Program> programs,
                             std::unique_ptr<program::Executor> executor,
                             const EngineSettings& settings)
    : programs_(std::move(programs)),
      executor_(std::move(executor)),
      settings_(settings),
      page_positions_(page_positions_of(programs_[kDecode])),
      num_mtp_heads_(programs_[kDecode].num_mtp_heads()),
      prefix_rules_{ring_slack_of(programs_[kDecode]), num_mtp_heads_},
      kv_pages_(settings.cache.num_kv_pages),
      sessions_(settings.cache.num_sequences),
      prefixes_(settings.cache.num_sequences, prefix_rules_),
      page_tables_(settings.cache.num_sequences) {}

std::optional<uint32_t> ProgramEngine::slot_of(SessionId session) const {
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (sessions_[slot] && sessions_[slot]->id() == session) return slot;
  }
  return std::nullopt;
}

size_t ProgramEngine::num_sessions() const {
  return static_cast<size_t>(
      std::ranges::count_if(sessions_, [](const auto& session) { return session.has_value(); }));
}

Status ProgramEngine::step(std::vector<StepEvent>* events) {
  if (failure_) return tl::unexpected(*failure_);
  US_TRY(take_turn(events));
  tell_observer();
  return {};
}

Status ProgramEngine::take_turn(std::vector<StepEvent>* events) {
  US_TRY(resume(events));
  const auto turn = scheduler_.next(programs_[kDecode].width);
  if (turn.phase == RequestScheduler::Phase::kIdle) return {};
  columns_.clear();
  shares_.clear();
  std::ranges::fill(page_tables_, std::span<const uint32_t>());
  const bool is_prefill = turn.phase == RequestScheduler::Phase::kPrefill;
  return is_prefill ? prefill(turn.slots.front(), events) : decode(turn.slots, events);
}

Status ProgramEngine::prefill(uint32_t slot, std::vector<StepEvent>* events) {
  US_TRY(gather_prompt(slot, events));
  if (shares_.empty()) return {};
  US_TRY(run(kPrefill));
  for (const Share& share : shares_) deliver_prompt(share, events);
  return {};
}

Status ProgramEngine::decode(std::span<const uint32_t> slots, std::vector<StepEvent>* events) {
  LapClock clock;
  US_TRY(gather_blocks(slots, &clock, events));
  if (shares_.empty()) return {};
  clock.lap(&decode_times_.other_s);
  US_TRY(run(decode_program()));
  clock.lap(&decode_times_.verify_s);
  decode_times_.draft_s += output_.draft_s;
  decode_times_.verify_s -= output_.draft_s;
  for (const Share& share : shares_) deliver_block(share, events);
  clock.lap(&decode_times_.other_s);
  ++decode_times_.num_steps;
  return {};
}

uint32_t ProgramEngine::decode_program() const {
  const bool has_drafts = columns_.size() > shares_.size();
  return programs_.size() > kPlainDecode && !has_drafts ? kPlainDecode : kDecode;
}

// Makes room for a session's next `count` tokens. One that finds none, or that may give no further
// token, waits or ends here; its pages may serve the sessions after it.
bool ProgramEngine::admit_or_end(uint32_t slot, uint32_t count, std::vector<StepEvent>* events) {
  if (!sessions_[slot]->may_go_on()) {
    end_without_token(slot, FinishReason::kConstraint, events);
    return false;
  }
  const Room room = make_room(slot, count);
  if (room == Room::kNone) end_without_token(slot, FinishReason::kLength, events);
  return room == Room::kNow;
}

void ProgramEngine::end_without_token(uint32_t slot, FinishReason reason,
                                      std::vector<StepEvent>* events) {
  add_event(*sessions_[slot], events).finished = reason;
  end_session(slot);
}

StepEvent& ProgramEngine::add_event(const Session& session, std::vector<StepEvent>* events) const {
  StepEvent& event = events->emplace_back();
  event.session = session.id();
  event.prompt_tokens_done = session.prompt_tokens_done();
  event.prompt_tokens_cached = session.prompt_tokens_cached();
  return event;
}

// Room for all anchors comes first, so that no draft takes the page that another session needs to
// go on; then drafts get what columns and pages are left.
Status ProgramEngine::gather_blocks(std::span<const uint32_t> slots, LapClock* clock,
                                    std::vector<StepEvent>* events) {
  std::vector<uint32_t> served;
  std::vector<uint32_t> wanted;
  for (const uint32_t slot : slots) {
    if (!is_preempted(slot) && admit_or_end(slot, 1, events)) served.push_back(slot);
  }
  std::erase_if(served, [&](uint32_t slot) { return is_preempted(slot); });
  for (const uint32_t slot : served) US_TRY(keep_prefix(slot, settings_.block_size));
  clock->lap(&decode_times_.other_s);
  wanted.reserve(served.size());
  for (const uint32_t slot : served) {
    wanted.push_back(sessions_[slot]->propose_block(settings_.block_size));
  }
  clock->lap(&decode_times_.draft_s);
  const std::vector<uint32_t> given = share_columns(wanted, programs_[kDecode].width);
  for (size_t i = 0; i < served.size(); ++i) {
    Session& session = *sessions_[served[i]];
    uint32_t count = given[i];
    // Ends at the anchor, which has its room.
    while (!grow(session.num_cached() + count, &session.page_table())) --count;
    shares_.push_back({served[i], count, columns_.size()});
    session.append_block(count, served[i], &columns_);
  }
  return {};
}

// Takes over the tokens of a verified block: those of the accepted drafts, and the target's own
// after them.
void ProgramEngine::deliver_block(const Share& share, std::vector<StepEvent>* events) {
  Session& session = *sessions_[share.slot];
  const size_t first_event = events->size();
  const uint32_t num_accepted = output_.columns[share.begin].accepted;
  session.advance(num_accepted + 1);
  session.trim();
  VerifyCycle cycle{.num_drafts = share.count - 1};
  std::optional<FinishReason> finished;
  while (!finished && cycle.num_tokens <= num_accepted) {
    finished = take_token(session, share.begin + cycle.num_tokens, events);
    ++cycle.num_tokens;
  }
  cycle.num_accepted = std::min(num_accepted, cycle.num_tokens);
  cycle.is_resident = output_.is_resident;
  (*events)[first_event].cycle = cycle;
  if (finished) {
    end_session(share.slot);
  } else {
    session.take_proposed(&output_.columns[share.begin]);
  }
}

// Makes the token that a column chose the next of the session's output.
std::optional<FinishReason> ProgramEngine::take_token(Session& session, size_t column,
                                                      std::vector<StepEvent>* events) {
  program::ColumnOutput& output = output_.columns[column];
  StepEvent& event = add_event(session, events);
  event.token = Token{output.token_id, output.logprob, std::move(output.top_logprobs)};
  event.finished = session.add_token(output.token_id);
  return event.finished;
}

void ProgramEngine::cancel(SessionId session) {
  if (const auto slot = slot_of(session)) end_session(*slot);
}

// Its slot keeps what the caches hold of it.
void ProgramEngine::end_session(uint32_t slot) {
  scheduler_.remove(slot);
  std::erase(preempted_, slot);
  PrefixCache::Prefix remains = sessions_[slot]->take_remains();
  sessions_[slot].reset();
  if (settings_.num_cached_prefixes == 0 || remains.tokens.empty()) return;
  prefixes_.insert(slot, std::move(remains));
}

// Runs columns_ and checks what comes back.
Status ProgramEngine::run(uint32_t program_index) {
  for (const Share& share : shares_) page_tables_[share.slot] = sessions_[share.slot]->pages();
  const program::StepInput input{.columns = columns_, .page_tables = page_tables_};
  output_.columns.clear();
  output_.draft_s = 0;
  output_.is_resident = false;
  Status status = executor_->run(program_index, input, &output_);
  if (status) status = check_output();
  if (!status) return fail(std::move(status).error());
  return {};
}

// The caches hold half a step now: all sessions end. After kInternal nothing of the executor can be
// relied on any more.
Status ProgramEngine::fail(Error error) {
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (sessions_[slot]) end_session(slot);
  }
  prefixes_.clear();
  tell_observer();
  if (error.code == ErrorCode::kInternal) failure_ = error;
  return tl::unexpected(std::move(error));
}

HeldText ProgramEngine::held_in(uint32_t slot) const {
  if (sessions_[slot]) return sessions_[slot]->held();
  const PrefixCache::Prefix* prefix = prefixes_.find(slot);
  return prefix != nullptr ? prefix->held() : HeldText();
}

void ProgramEngine::observe_caches(CacheObserver* observer) {
  US_CHECK(idle(), "sessions are active");
  if (page_positions_ == 0 || settings_.num_cached_prefixes == 0) return;
  observer_ = observer;
  blocks_.emplace(num_slots(), page_positions_);
}

void ProgramEngine::tell_observer() {
  if (observer_ == nullptr) return;
  for (uint32_t slot = 0; slot < num_slots(); ++slot) blocks_->hold(slot, held_in(slot));
  CacheChange change = blocks_->take_change();
  if (!change.is_empty()) observer_->on_change(std::move(change));
}

Status ProgramEngine::run_text(std::span<const int32_t> tokens, uint32_t num_positions,
                               const TextColumn& fill, const TextStep& step_done) {
  if (failure_) return tl::unexpected(*failure_);
  if (!idle()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a text runs alone, but a session is active; cancel it or let it end");
  }
  US_TRY(check_token_ids("the text", tokens, settings_.vocab_size));
  if (tokens.size() > settings_.max_context) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} tokens, expected at most {}, the positions of the context",
                      tokens.size(), settings_.max_context);
  }
  KvPageTable pages(&kv_pages_, page_positions_);
  const bool has_room = grow(num_positions, &pages);
  US_CHECK(has_room, "{} positions, {} free KV pages", num_positions, kv_pages_.num_available());
  const uint32_t slot = take_slot();
  std::ranges::fill(page_tables_, std::span<const uint32_t>());
  page_tables_[slot] = pages.pages();

  shares_.clear();
  for (uint32_t begin = 0, end = 0; begin < num_positions; begin = end) {
    end = std::min(num_positions, begin + programs_[kPrefill].width);
    columns_.clear();
    for (uint32_t position = begin; position < end; ++position) {
      program::Column& column = columns_.emplace_back();
      column.token_id = tokens[position];
      column.position = position;
      column.sequence = slot;
      if (fill) fill(position, &column);
    }
    US_TRY(run(kPrefill));
    US_TRY(step_done(begin, end));
  }
  return {};
}

Result<std::vector<float>> ProgramEngine::score(std::span<const int32_t> tokens,
                                                const std::function<void(uint32_t)>& progress) {
  std::vector<float> logprobs;
  const auto wants_next = [&](uint32_t position, program::Column* column) {
    column->wants_logits = true;
    column->sampling.forced_token_id = tokens[position + 1];
  };
  const auto step_done = [&](uint32_t, uint32_t end) -> Status {
    for (const auto& column : output_.columns) logprobs.push_back(column.logprob);
    if (progress) progress(end);
    return {};
  };
  // The last token is only predicted, never computed.
  const auto num_positions = static_cast<uint32_t>(std::max<size_t>(tokens.size(), 1)) - 1;
  US_TRY(run_text(tokens, num_positions, wants_next, step_done));
  return logprobs;
}

Status ProgramEngine::features(std::span<const int32_t> tokens, const ResidualSink& sink) {
  const program::Program& program = programs_[kPrefill];
  const size_t num_buffers = program.captured.size();
  if (num_buffers == 0) return Engine::features(tokens, sink);
  const size_t row = program.hidden_size;
  std::vector<std::vector<float>> buffers(num_buffers, std::vector<float>(program.width * row));
  std::vector<std::span<const float>> views(num_buffers);
  const auto step_done = [&](uint32_t begin, uint32_t end) -> Status {
    for (size_t i = 0; i < num_buffers; ++i) {
      US_TRY(executor_->read_buffer(kPrefill, program.captured[i], buffers[i]));
      views[i] = std::span(buffers[i]).first((end - begin) * row);
    }
    return sink(begin, end - begin, views);
  };
  return run_text(tokens, static_cast<uint32_t>(tokens.size()), {}, step_done);
}

}  // namespace ultraspeed::engine
