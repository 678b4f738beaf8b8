#include "mode_texts.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "cpu/executor.h"
#include "engine/engine.h"

namespace ultraspeed {
namespace {

constexpr uint32_t kSessions = 8;  // columns of a decode step

// A beginning of a prompt, and how many tokens follow it.
struct Request {
  std::vector<int32_t> prompt;
  uint32_t max_tokens = 0;
};

std::vector<Request> make_requests(const std::vector<KnownText>& beginnings, uint32_t num_tokens,
                                   const TextOptions& options) {
  std::mt19937 random(options.seed);
  std::vector<Request> requests;
  for (uint32_t left = num_tokens; left > 0; left -= requests.back().max_tokens) {
    const KnownText& beginning = beginnings[requests.size() % beginnings.size()];
    const auto length = static_cast<ptrdiff_t>(1 + random() % beginning.first);
    requests.push_back({{beginning.tokens.begin(), beginning.tokens.begin() + length},
                        std::min(left, options.text_tokens)});
  }
  return requests;
}

Result<std::unique_ptr<engine::Engine>> open_engine(const apps::LoadedModel& model,
                                                    uint32_t max_context, uint32_t num_threads) {
  const engine::EngineOptions options{
      .max_context = max_context, .max_sessions = kSessions, .decode_width = kSessions};
  return engine::Engine::open(model.config(), model.checkpoint(), cpu::make_cpu_executor({}),
                              cpu::cpu_limits(num_threads), options, {});
}

// The requests' texts, as many at a time as there are sessions.
Result<std::vector<KnownText>> sample(engine::Engine& engine, const std::vector<Request>& requests,
                                      uint32_t seed, const std::function<void(size_t)>& progress) {
  std::vector<KnownText> texts;
  for (const Request& request : requests) {
    texts.push_back({request.prompt, static_cast<uint32_t>(request.prompt.size())});
  }
  std::map<engine::SessionId, size_t> running;
  std::vector<engine::StepEvent> events;
  size_t num_tokens = 0;
  for (size_t next = 0; next < requests.size() || !running.empty();) {
    for (; next < requests.size() && running.size() < kSessions; ++next) {
      engine::GenerationParams params;
      params.max_tokens = requests[next].max_tokens;
      params.ignore_eos = true;
      params.sampling.seed = (uint64_t{seed} << 32) + next;
      US_ASSIGN(const auto id, engine.start(requests[next].prompt, params));
      running[id] = next;
    }
    events.clear();
    US_TRY(engine.step(&events));
    for (const engine::StepEvent& event : events) {
      if (event.token) texts[running.at(event.session)].tokens.push_back(event.token->id);
      num_tokens += event.token ? 1 : 0;
      if (event.finished) running.erase(event.session);
    }
    progress(num_tokens);
  }
  return texts;
}

}  // namespace

Result<std::vector<KnownText>> known_texts(const apps::LoadedModel& model,
                                           const std::vector<KnownText>& beginnings,
                                           const TextOptions& options,
                                           const std::function<void(size_t)>& progress) {
  std::vector<KnownText> texts = beginnings;
  uint32_t given = 0, longest = 0;
  for (const KnownText& text : beginnings) {
    given += text.num_scored();
    longest = std::max(longest, text.first);
  }
  if (given >= options.num_tokens) return texts;
  const auto requests = make_requests(beginnings, options.num_tokens - given, options);
  US_ASSIGN(const auto engine,
            open_engine(model, longest + options.text_tokens + 1, options.num_threads));
  US_ASSIGN(auto sampled, sample(*engine, requests, options.seed,
                                 [&](size_t count) { progress(given + count); }));
  std::move(sampled.begin(), sampled.end(), std::back_inserter(texts));
  return texts;
}

}  // namespace ultraspeed
