#include "apps/latency_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <utility>

#include "apps/bench_result.h"

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kStreamPrompt = 16;
constexpr uint32_t kStepsBefore = 16;        // of the stream, before a prompt comes
constexpr uint32_t kLeastPrefillWidth = 64;  // of what executors take by themselves

double host_clock_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

// A session of the engine, ended with the object.
class RunningSession {
 public:
  static Result<RunningSession> start(engine::Engine& engine, const std::vector<int32_t>& prompt) {
    engine::GenerationParams params;
    params.ignore_eos = true;
    params.sampling.temperature = 0;
    US_ASSIGN(const engine::SessionId id, engine.start(prompt, params));
    return RunningSession(engine, id);
  }
  ~RunningSession() {
    if (engine_ != nullptr) engine_->cancel(id_);
  }
  RunningSession(RunningSession&& other) noexcept
      : engine_(std::exchange(other.engine_, nullptr)), id_(other.id_) {}
  RunningSession& operator=(RunningSession&&) = delete;

  engine::SessionId id() const { return id_; }

 private:
  RunningSession(engine::Engine& engine, engine::SessionId id) : engine_(&engine), id_(id) {}

  engine::Engine* engine_;
  engine::SessionId id_;
};

class Measurement {
 public:
  Measurement(engine::Engine& engine, const LatencyOptions& options)
      : engine_(engine), options_(options) {}

  Result<LatencySamples> run(uint32_t prompt_tokens) {
    LatencySamples samples;
    samples.prompt_tokens = prompt_tokens;
    for (uint32_t i = 0; i <= options_.repeat; ++i) {  // the first one warms up
      show(prompt_tokens, i);
      US_ASSIGN(const double alone_ms, first_token_ms(prompt_tokens));
      US_TRY(run_beside(prompt_tokens, &samples));
      if (i > 0) {
        samples.first_token_ms.push_back(alone_ms);
        continue;
      }
      samples.beside_first_token_ms.clear();
      samples.beside_gaps_ms.clear();
    }
    US_ASSIGN(const RunningSession stream,
              RunningSession::start(engine_, prompt_of(kStreamPrompt)));
    US_TRY(run_steps(stream, kStepsBefore, nullptr));
    US_TRY(run_steps(stream, options_.alone_steps, &samples.alone_gaps_ms));
    return samples;
  }

 private:
  void show(uint32_t prompt_tokens, uint32_t round) const {
    if (!options_.progress) return;
    options_.progress(fmt::format(
        "{} prompt tokens: {}", prompt_tokens,
        round == 0 ? std::string("warm-up") : fmt::format("{} of {}", round, options_.repeat)));
  }

  std::vector<int32_t> prompt_of(uint32_t size) {
    std::uniform_int_distribution<int32_t> ids(0, static_cast<int32_t>(options_.vocab_size) - 1);
    std::vector<int32_t> prompt(size);
    for (int32_t& id : prompt) id = ids(random_);
    return prompt;
  }

  // One step: which of the two sessions it gave tokens.
  struct Given {
    bool first = false, second = false;
  };
  Result<Given> step(const RunningSession& first, const RunningSession* second) {
    events_.clear();
    US_TRY(engine_.step(&events_));
    Given given;
    for (const engine::StepEvent& event : events_) {
      const bool is_first = event.session == first.id();
      if (event.token) (is_first ? given.first : given.second) = true;
      if (!event.finished) continue;
      return make_error(ErrorCode::kInvalidArgument,
                        "the {} ended while it was measured, after {} tokens at most; "
                        "measure shorter prompts or wider prefill steps",
                        second != nullptr && is_first ? "stream" : "prompt's session",
                        engine_.max_context());
    }
    return given;
  }

  // Until `num_steps` gaps between the stream's events have been seen.
  Status run_steps(const RunningSession& stream, uint32_t num_steps, std::vector<double>* gaps_ms) {
    std::optional<double> last;
    for (uint32_t num_events = 0; num_events <= num_steps;) {
      US_ASSIGN(const Given given, step(stream, nullptr));
      if (!given.first) continue;
      const double now = now_ms();
      if (last && gaps_ms != nullptr) gaps_ms->push_back(now - *last);
      last = now;
      ++num_events;
    }
    return {};
  }

  Result<double> first_token_ms(uint32_t prompt_tokens) {
    const std::vector<int32_t> prompt = prompt_of(prompt_tokens);
    const double begin = now_ms();
    US_ASSIGN(const RunningSession session, RunningSession::start(engine_, prompt));
    while (true) {
      US_ASSIGN(const Given given, step(session, nullptr));
      if (given.first) return now_ms() - begin;
    }
  }

  // A prompt beside a stream that decodes.
  Status run_beside(uint32_t prompt_tokens, LatencySamples* samples) {
    US_ASSIGN(const RunningSession stream,
              RunningSession::start(engine_, prompt_of(kStreamPrompt)));
    US_TRY(run_steps(stream, kStepsBefore, nullptr));
    const std::vector<int32_t> prompt = prompt_of(prompt_tokens);
    const double begin = now_ms();
    double last = begin;  // the stream's event before
    US_ASSIGN(const RunningSession session, RunningSession::start(engine_, prompt));
    const auto count_gap = [&](const Given& given) {
      if (!given.first) return;
      const double now = now_ms();
      samples->beside_gaps_ms.push_back(now - last);
      last = now;
    };
    for (bool is_waiting = true; is_waiting;) {
      US_ASSIGN(const Given given, step(stream, &session));
      count_gap(given);
      is_waiting = !given.second;
    }
    samples->beside_first_token_ms.push_back(now_ms() - begin);
    US_ASSIGN(const Given after, step(stream, &session));  // ends the gap of the last chunk
    count_gap(after);
    return {};
  }

  double now_ms() const { return options_.now_ms ? options_.now_ms() : host_clock_ms(); }

  engine::Engine& engine_;
  const LatencyOptions& options_;
  std::mt19937 random_{1};
  std::vector<engine::StepEvent> events_;
};

}  // namespace

uint32_t latency_context(const LatencyOptions& options) {
  const uint32_t longest = std::ranges::max(options.prompt_tokens);
  const uint32_t steps = std::max(options.alone_steps, longest / kLeastPrefillWidth + 2);
  const uint32_t stream = kStreamPrompt + (kStepsBefore + steps + 2) * options.block_size;
  return std::max(longest + 2 * options.block_size, stream);
}

Result<std::vector<LatencySamples>> measure_latency(engine::Engine& engine,
                                                    const LatencyOptions& options) {
  Measurement measurement(engine, options);
  std::vector<LatencySamples> all;
  for (const uint32_t prompt_tokens : options.prompt_tokens) {
    US_ASSIGN(LatencySamples samples, measurement.run(prompt_tokens));
    all.push_back(std::move(samples));
  }
  return all;
}

TextTable latency_table(const std::vector<LatencySamples>& samples) {
  TextTable table;
  table.head = {"prompt tokens",    "first token ms",
                "prompt tokens/s",  "beside a stream ms",
                "stream's gap p50", "p99",
                "alone, p50",       "p99",
                "longest beside"};
  const auto number = [](double value) { return fmt::format("{:.3f}", value); };
  for (const LatencySamples& of : samples) {
    const double first_ms = median(of.first_token_ms);
    table.rows.push_back(
        {std::to_string(of.prompt_tokens), number(first_ms),
         fmt::format("{:.0f}", of.prompt_tokens / first_ms * 1e3),
         number(median(of.beside_first_token_ms)), number(median(of.beside_gaps_ms)),
         number(quantile(of.beside_gaps_ms, 0.99)), number(median(of.alone_gaps_ms)),
         number(quantile(of.alone_gaps_ms, 0.99)), number(std::ranges::max(of.beside_gaps_ms))});
  }
  return table;
}

}  // namespace ultraspeed::apps
