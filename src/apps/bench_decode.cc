#include "apps/bench_decode.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"
#include "server/output_text.h"

namespace ultraspeed::apps {
namespace {

// One session at work.
struct Stream {
  size_t prompt = 0;
  std::vector<int32_t> text;
  std::optional<server::OutputText> output;  // where the prompt has stop strings
  bool is_over = false;

  // Of the step at hand.
  std::optional<engine::VerifyCycle> cycle;
  uint32_t num_taken = 0;
};

class Pass {
 public:
  Pass(engine::Engine& engine, const text::Tokenizer* tokenizer,
       std::span<const BenchPrompt> prompts, const DecodeOptions& options)
      : engine_(engine),
        tokenizer_(tokenizer),
        prompts_(prompts),
        options_(options),
        num_sessions_(std::max<size_t>(prompts.size(), options.streams * size_t{2})) {
    if (options.streams == 1) pass_.prompt_rates.resize(prompts.size());
    pass_.texts.resize(prompts.size());
    pass_.prompt_speculation.resize(prompts.size());
  }

  Status run() {
    std::vector<engine::StepEvent> events;
    while (num_done_ < num_sessions_) {
      while (streams_.size() < options_.streams && num_started_ < num_sessions_) US_TRY(start());
      const engine::DecodeTimes before = engine_.decode_times();
      events.clear();
      US_TRY(engine_.step(&events));
      for (const engine::StepEvent& event : events) US_TRY(take(event));
      count_step(before, engine_.decode_times());
      US_TRY(end_streams());
    }
    if (pass_.rate.num_tokens > 0) return {};
    return make_error(ErrorCode::kInvalidArgument,
                      "no step in which all {} sessions decode: the texts are too short to "
                      "measure; raise --max-tokens",
                      options_.streams);
  }

  // Ends what an error left.
  ~Pass() {
    for (const auto& [id, stream] : streams_) engine_.cancel(id);
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  DecodePass& result() { return pass_; }

 private:
  Status start() {
    Stream stream;
    stream.prompt = num_started_ % prompts_.size();
    const BenchPrompt& prompt = prompts_[stream.prompt];
    engine::GenerationParams params = options_.params;
    if (!options_.known_texts.empty()) {
      params.expected_output = options_.known_texts[stream.prompt];
    }
    if (!prompt.stop.empty()) {
      US_CHECK(tokenizer_ != nullptr);
      US_ASSIGN(auto stop, text::StopStrings::create(prompt.stop));
      stream.output.emplace(*tokenizer_, std::move(stop), server::OutputText::Options{});
    }
    US_ASSIGN(const engine::SessionId id, engine_.start(prompt.ids, params));
    streams_.emplace(id, std::move(stream));
    ++num_started_;
    return {};
  }

  Status take(const engine::StepEvent& event) {
    const auto found = streams_.find(event.session);
    US_CHECK(found != streams_.end(), "session {}", event.session);
    Stream& stream = found->second;
    if (event.cycle) stream.cycle = event.cycle;
    if (event.token && !stream.is_over) {
      stream.text.push_back(event.token->id);
      ++stream.num_taken;
      stream.is_over = stream.output && stream.output->push(event.token->id).stopped;
    }
    if (event.finished) stream.is_over = true;
    return {};
  }

  void count_step(const engine::DecodeTimes& before, const engine::DecodeTimes& after) {
    size_t num_decoding = 0;
    uint64_t num_tokens = 0;
    size_t prompt = 0;
    for (auto& [id, stream] : streams_) {
      if (!stream.cycle) continue;
      pass_.speculation.add(*stream.cycle, stream.num_taken);
      pass_.prompt_speculation[stream.prompt].add(*stream.cycle, stream.num_taken);
      ++num_decoding;
      num_tokens += stream.num_taken;
      prompt = stream.prompt;
    }
    if (num_decoding != options_.streams) return;
    pass_.times.num_steps += after.num_steps - before.num_steps;
    pass_.times.draft_s += after.draft_s - before.draft_s;
    pass_.times.verify_s += after.verify_s - before.verify_s;
    pass_.times.other_s += after.other_s - before.other_s;
    const double seconds = after.total_s() - before.total_s();
    pass_.rate.add(num_tokens, seconds);
    if (!pass_.prompt_rates.empty()) pass_.prompt_rates[prompt].add(num_tokens, seconds);
  }

  Status end_streams() {
    for (auto entry = streams_.begin(); entry != streams_.end();) {
      Stream& stream = entry->second;
      stream.cycle.reset();
      stream.num_taken = 0;
      if (!stream.is_over) {
        ++entry;
        continue;
      }
      engine_.cancel(entry->first);
      std::vector<int32_t>& text = pass_.texts[stream.prompt];
      if (!text.empty() && text != stream.text && options_.is_text_determined()) {
        return make_error(ErrorCode::kInternal, "two texts of prompt '{}' differ",
                          prompts_[stream.prompt].name);
      }
      text = std::move(stream.text);
      entry = streams_.erase(entry);
      ++num_done_;
      if (options_.progress) options_.progress(num_done_, num_sessions_);
    }
    return {};
  }

  engine::Engine& engine_;
  const text::Tokenizer* tokenizer_;
  std::span<const BenchPrompt> prompts_;
  const DecodeOptions& options_;
  const size_t num_sessions_;
  size_t num_started_ = 0;
  size_t num_done_ = 0;
  std::map<engine::SessionId, Stream> streams_;
  DecodePass pass_;
};

}  // namespace

double DecodeRate::tokens_per_second() const {
  return num_tokens == 0 ? 0 : static_cast<double>(num_tokens) / seconds;
}

Result<DecodePass> decode_prompts(engine::Engine& engine, const text::Tokenizer* tokenizer,
                                  std::span<const BenchPrompt> prompts,
                                  const DecodeOptions& options) {
  US_CHECK(!prompts.empty() && options.streams > 0, "{} prompts, {} streams", prompts.size(),
           options.streams);
  Pass pass(engine, tokenizer, prompts, options);
  US_TRY(pass.run());
  return std::move(pass.result());
}

Status check_same_texts(std::span<const BenchPrompt> prompts, const DecodePass& expected,
                        const std::string& expected_drafter, const DecodePass& other,
                        const std::string& other_drafter) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int32_t>& a = expected.texts[i];
    const std::vector<int32_t>& b = other.texts[i];
    if (a == b) continue;
    const auto [at, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    return make_error(ErrorCode::kInternal,
                      "prompt '{}': the texts of {} and {} differ from token {} on; speculation "
                      "must never change a text",
                      prompts[i].name, expected_drafter, other_drafter, at - a.begin());
  }
  return {};
}

}  // namespace ultraspeed::apps
