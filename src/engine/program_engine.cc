#include "engine/program_engine.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/params.h"

namespace ultraspeed::engine {

Result<std::unique_ptr<ProgramEngine>> ProgramEngine::make(
    std::vector<program::Program> programs, std::unique_ptr<program::Executor> executor,
    const EngineSettings& settings, const program::WeightReader& read_weight) {
  US_CHECK(programs.size() == 2, "{} programs", programs.size());
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
      kv_pages_(settings.cache.num_kv_pages),
      sessions_(settings.cache.num_sequences),
      page_tables_(settings.cache.num_sequences) {}

Result<SessionId> ProgramEngine::start(std::span<const int32_t> prompt,
                                       const GenerationParams& params) {
  if (failure_) return tl::unexpected(*failure_);
  US_TRY(check_token_ids("the prompt", prompt, settings_.vocab_size));
  US_TRY(check_params(params, settings_.vocab_size));
  if (prompt.size() >= settings_.max_context) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "the prompt has {} tokens, expected at most {}: the context has {} positions, "
        "and one is for the output",
        prompt.size(), settings_.max_context - 1, settings_.max_context);
  }
  US_ASSIGN(const uint32_t slot, find_free_slot());
  KvPageTable pages(&kv_pages_, page_positions_);
  const auto num_positions = static_cast<uint32_t>(prompt.size()) + 1;
  if (!pages.grow(num_positions)) {
    return make_error(
        ErrorCode::kOutOfMemory,
        "a prompt of {} tokens needs {} KV pages, but {} of {} are free; wait until a "
        "session ends",
        prompt.size(), num_pages_for(num_positions, page_positions_), kv_pages_.num_free(),
        kv_pages_.num_pages());
  }
  const SessionId id = next_id_++;
  sessions_[slot].emplace(id, prompt, params, settings_.max_context, std::move(pages));
  scheduler_.admit(slot);
  return id;
}

Result<uint32_t> ProgramEngine::find_free_slot() const {
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (!sessions_[slot]) return slot;
  }
  return make_error(ErrorCode::kOutOfMemory,
                    "all {} sessions are in use; wait until one ends or raise max_sessions",
                    sessions_.size());
}

Status ProgramEngine::step(std::vector<StepEvent>* events) {
  if (failure_) return tl::unexpected(*failure_);
  const auto turn = scheduler_.next(programs_[kDecode].width);
  if (turn.phase == RequestScheduler::Phase::kIdle) return {};
  const uint32_t index = turn.phase == RequestScheduler::Phase::kPrefill ? kPrefill : kDecode;
  const std::vector<Share> shares = gather_columns(turn, programs_[index].width, events);
  if (shares.empty()) return {};
  US_TRY(run(index));
  for (const Share& share : shares) deliver(share, events);
  return {};
}

// Fills columns_ and page_tables_. A session whose next position finds no free page ends here; its
// pages may serve the sessions after it.
std::vector<ProgramEngine::Share> ProgramEngine::gather_columns(const RequestScheduler::Turn& turn,
                                                                uint32_t width,
                                                                std::vector<StepEvent>* events) {
  std::vector<Share> shares;
  columns_.clear();
  std::ranges::fill(page_tables_, std::span<const uint32_t>());
  for (const uint32_t slot : turn.slots) {
    Session& session = *sessions_[slot];
    const uint32_t count = std::min(session.num_pending(), width);
    if (!session.reserve(count)) {
      events->push_back(
          {session.id(), session.prompt_tokens_done(), std::nullopt, FinishReason::kLength});
      end_session(slot);
      continue;
    }
    session.append_columns(count, slot, &columns_);
    page_tables_[slot] = session.pages();
    shares.push_back({slot, count, columns_.size()});
  }
  return shares;
}

// Takes over what the step computed for one session.
void ProgramEngine::deliver(const Share& share, std::vector<StepEvent>* events) {
  Session& session = *sessions_[share.slot];
  const bool was_in_prompt = session.in_prompt();
  session.advance(share.count);
  if (was_in_prompt && !session.in_prompt()) scheduler_.prompt_done(share.slot);

  StepEvent event;
  event.session = session.id();
  event.prompt_tokens_done = session.prompt_tokens_done();
  if (columns_[share.end - 1].wants_logits) {
    program::ColumnOutput& output = output_.columns[share.end - 1];
    event.token = Token{output.token_id, output.logprob, std::move(output.top_logprobs)};
    event.finished = session.add_token(output.token_id);
  }
  if (event.finished) end_session(share.slot);
  events->push_back(std::move(event));
}

void ProgramEngine::cancel(SessionId session) {
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (sessions_[slot] && sessions_[slot]->id() == session) return end_session(slot);
  }
}

void ProgramEngine::end_session(uint32_t slot) {
  scheduler_.remove(slot);
  sessions_[slot].reset();
}

// Runs columns_ and checks what comes back.
Status ProgramEngine::run(uint32_t program_index) {
  const program::StepInput input{.columns = columns_, .page_tables = page_tables_};
  output_.columns.clear();
  Status status = executor_->run(program_index, input, &output_);
  if (status) status = check_output();
  if (!status) return fail(std::move(status).error());
  return {};
}

Status ProgramEngine::check_output() const {
  if (output_.columns.size() != columns_.size()) {
    return make_error(ErrorCode::kInternal, "the executor returned {} columns of {}",
                      output_.columns.size(), columns_.size());
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    const int32_t token_id = output_.columns[i].token_id;
    if (!columns_[i].wants_logits) continue;
    if (token_id >= 0 && static_cast<uint32_t>(token_id) < settings_.vocab_size) continue;
    return make_error(ErrorCode::kInternal,
                      "the executor chose token {} after position {}, expected 0 to {}", token_id,
                      columns_[i].position, settings_.vocab_size - 1);
  }
  return {};
}

// The caches hold half a step now: all sessions end. After kInternal nothing of the executor can be
// relied on any more.
Status ProgramEngine::fail(Error error) {
  for (uint32_t slot = 0; slot < sessions_.size(); ++slot) {
    if (sessions_[slot]) end_session(slot);
  }
  if (error.code == ErrorCode::kInternal) failure_ = error;
  return tl::unexpected(std::move(error));
}

Result<std::vector<float>> ProgramEngine::score(std::span<const int32_t> tokens,
                                                const std::function<void(uint32_t)>& progress) {
  if (failure_) return tl::unexpected(*failure_);
  if (!idle()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "scoring runs alone, but a session is active; cancel it or let it end");
  }
  US_TRY(check_token_ids("the text", tokens, settings_.vocab_size));
  if (tokens.size() > settings_.max_context) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} tokens, expected at most {}, the positions of the context",
                      tokens.size(), settings_.max_context);
  }
  // The last token is only predicted, never computed.
  const auto num_positions = static_cast<uint32_t>(tokens.size()) - 1;
  KvPageTable pages(&kv_pages_, page_positions_);
  const bool has_room = pages.grow(num_positions);
  US_CHECK(has_room, "{} positions, {} free KV pages", num_positions, kv_pages_.num_free());
  std::ranges::fill(page_tables_, std::span<const uint32_t>());
  page_tables_[0] = pages.pages();

  std::vector<float> logprobs;
  while (logprobs.size() < num_positions) {
    const auto begin = static_cast<uint32_t>(logprobs.size());
    const uint32_t end = std::min(num_positions, begin + programs_[kPrefill].width);
    columns_.clear();
    for (uint32_t position = begin; position < end; ++position) {
      program::Column& column = columns_.emplace_back();
      column.token_id = tokens[position];
      column.position = position;
      column.wants_logits = true;
      column.sampling.forced_token_id = tokens[position + 1];
    }
    US_TRY(run(kPrefill));
    for (const auto& column : output_.columns) logprobs.push_back(column.logprob);
    if (progress) progress(end);
  }
  return logprobs;
}

}  // namespace ultraspeed::engine
