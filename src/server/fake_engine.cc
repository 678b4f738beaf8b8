#include "server/fake_engine.h"

#include <algorithm>
#include <bit>
#include <thread>

namespace ultraspeed::server {

using engine::FinishReason;
using engine::SessionId;
using engine::StepEvent;

namespace {

// The only text that the constraint allows, to its end.
std::vector<int32_t> only_text(const engine::TokenConstraint& constraint) {
  constexpr size_t kMaxWords = 4096;  // of 64 tokens of the vocabulary
  std::vector<int32_t> text;
  std::vector<uint64_t> words(kMaxWords);
  for (const auto rest = constraint.clone();; rest->advance(text.back())) {
    std::ranges::fill(words, ~uint64_t{0});
    rest->mask({}, words);
    const auto word = std::ranges::find_if(words, [](uint64_t bits) { return bits != 0; });
    if (word == words.end()) return text;
    text.push_back(static_cast<int32_t>((word - words.begin()) * 64 + std::countr_zero(*word)));
  }
}

}  // namespace

Result<SessionId> FakeEngine::start(std::span<const int32_t> prompt,
                                    const engine::GenerationParams& params) {
  const std::lock_guard lock(mutex_);
  if (start_error) return tl::unexpected(*start_error);
  if (sessions_.size() >= max_sessions) {
    return make_error(ErrorCode::kOutOfMemory, "all sessions are taken");
  }
  Session session;
  session.start = {{prompt.begin(), prompt.end()}, params};
  session.is_constrained = params.sampling.constraint != nullptr;
  if (follows_constraints && session.is_constrained) {
    session.forced = only_text(*params.sampling.constraint);
  }
  if (records_starts) starts_.push_back(session.start);
  sessions_.emplace(++last_session_, std::move(session));
  changed_.notify_all();
  return last_session_;
}

Result<SessionId> FakeEngine::fork(SessionId from, uint64_t seed) {
  const std::lock_guard lock(mutex_);
  if (sessions_.size() >= max_sessions) {
    return make_error(ErrorCode::kOutOfMemory, "all sessions are taken");
  }
  Session session = sessions_.at(from);
  session.start.params.sampling.seed = seed;
  session.num_generated = 0;
  sessions_.emplace(++last_session_, std::move(session));
  ++num_forks_;
  return last_session_;
}

Status FakeEngine::step(std::vector<StepEvent>* events) {
  std::this_thread::sleep_for(std::chrono::microseconds(step_delay_us.load()));
  if (const std::chrono::microseconds period(step_period_us.load()); period.count() > 0) {
    constexpr std::chrono::milliseconds kLongestDelay{200};  // what took longer was a pause
    const auto now = std::chrono::steady_clock::now();
    last_step_ = now - last_step_ > kLongestDelay ? now : last_step_ + period;
    std::this_thread::sleep_until(last_step_);
  }
  const std::lock_guard lock(mutex_);
  if (fails_steps.load()) return make_error(ErrorCode::kInternal, "worker 3 missed its deadline");
  for (auto entry = sessions_.begin(); entry != sessions_.end();) {
    const bool has_ended = advance(entry->first, entry->second, events);
    entry = has_ended ? sessions_.erase(entry) : std::next(entry);
  }
  return {};
}

void FakeEngine::cancel(SessionId session) {
  const std::lock_guard lock(mutex_);
  num_cancelled_ += sessions_.erase(session);
  changed_.notify_all();
}

bool FakeEngine::advance(SessionId id, Session& session, std::vector<StepEvent>* events) {
  const size_t prompt_size = session.start.prompt.size();
  if (session.num_prefilled < prompt_size) {
    const size_t first = session.num_prefilled;
    session.num_prefilled = std::min(prompt_size, session.num_prefilled + prefill_width);
    StepEvent event;
    event.session = id;
    event.prompt_tokens_done = static_cast<uint32_t>(session.num_prefilled);
    event.prompt_tokens_cached = cached_tokens;
    if (session.start.params.num_prompt_logprobs) {
      for (size_t i = first; i < session.num_prefilled; ++i) {
        engine::Token token;
        token.id = session.start.prompt[i];
        token.logprob = i == 0 ? 0.0F : -static_cast<float>(i);
        if (i > 0) token.top_logprobs = {{token.id, token.logprob}};
        event.prompt_tokens.push_back(std::move(token));
      }
    }
    events->push_back(std::move(event));
    return false;
  }
  if (is_paused.load()) return false;
  const bool is_cycle = session.num_generated > 0;  // the first tokens count as the prefill's
  for (size_t i = 0; i < tokens_per_step; ++i) {
    StepEvent event;
    if (is_cycle && i == 0) {
      const auto num_tokens = static_cast<uint32_t>(tokens_per_step);
      event.cycle = engine::VerifyCycle{num_tokens - 1, num_tokens - 1, num_tokens};
    }
    event.session = id;
    event.prompt_tokens_done = static_cast<uint32_t>(prompt_size);
    event.prompt_tokens_cached = cached_tokens;
    event.token = token(session);
    if (records_times) token_times_.push_back(std::chrono::steady_clock::now());
    ++session.num_generated;
    const uint32_t max_tokens = session.start.params.max_tokens;
    if (!is_endless.load() && session.num_generated >= reply_of(session).size()) {
      event.finished = FinishReason::kStop;
    } else if (session.num_generated == max_tokens ||
               prompt_size + session.num_generated >= context) {
      event.finished = FinishReason::kLength;
    }
    events->push_back(event);
    if (event.finished) return true;
  }
  return false;
}

const std::vector<int32_t>& FakeEngine::reply_of(const Session& session) const {
  if (!session.forced.empty()) return session.forced;
  if (session.is_constrained && !judge_reply.empty()) return judge_reply;
  if (replies_by_seed.empty()) return reply;
  return replies_by_seed[session.start.params.sampling.seed % replies_by_seed.size()];
}

engine::Token FakeEngine::token(const Session& session) const {
  engine::Token token;
  const std::vector<int32_t>& text = reply_of(session);
  token.id = text[session.num_generated % text.size()];
  token.logprob = -0.5F;
  if (!replies_by_seed.empty()) {  // a higher seed is less likely
    token.logprob -=
        static_cast<float>(session.start.params.sampling.seed % replies_by_seed.size());
  }
  for (uint32_t i = 0; i < session.start.params.sampling.num_logprobs; ++i) {
    token.top_logprobs.emplace_back(token.id + static_cast<int32_t>(i),
                                    -0.5F - static_cast<float>(i));
  }
  return token;
}

}  // namespace ultraspeed::server
