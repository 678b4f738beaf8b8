#include "apps/answers.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"
#include "server/output_text.h"

namespace ultraspeed::apps {
namespace {

struct Writer {
  size_t prompt = 0;
  std::optional<server::OutputText> output;  // where the prompt has stop strings
  bool is_over = false;
};

class AnswerRun {
 public:
  AnswerRun(engine::Engine& engine, const text::Tokenizer* tokenizer,
            std::span<const BenchPrompt> prompts, const AnswerOptions& options)
      : engine_(engine), tokenizer_(tokenizer), prompts_(prompts), options_(options) {
    answers_.resize(prompts.size());
  }

  // Ends what an error left.
  ~AnswerRun() {
    for (const auto& [id, writer] : writers_) engine_.cancel(id);
  }
  AnswerRun(const AnswerRun&) = delete;
  AnswerRun& operator=(const AnswerRun&) = delete;

  Result<std::vector<std::vector<int32_t>>> run() {
    std::vector<engine::StepEvent> events;
    while (num_started_ < prompts_.size() || !writers_.empty()) {
      while (writers_.size() < options_.streams && num_started_ < prompts_.size()) US_TRY(start());
      events.clear();
      US_TRY(engine_.step(&events));
      for (const engine::StepEvent& event : events) take(event);
      std::erase_if(writers_, [this](const auto& entry) {
        if (entry.second.is_over) engine_.cancel(entry.first);
        return entry.second.is_over;
      });
    }
    return std::move(answers_);
  }

 private:
  Status start() {
    const BenchPrompt& prompt = prompts_[num_started_];
    US_CHECK(prompt.ids.size() < options_.max_length, "{} tokens of {}", prompt.ids.size(),
             options_.max_length);
    engine::GenerationParams params;
    params.sampling.temperature = options_.temperature;
    params.sampling.seed = options_.seeds[num_started_];
    const auto room = options_.max_length - static_cast<uint32_t>(prompt.ids.size());
    params.max_tokens = std::min(options_.max_tokens, room);
    params.stop_ids = options_.stop_ids;
    Writer writer;
    writer.prompt = num_started_;
    if (!prompt.stop.empty()) {
      US_CHECK(tokenizer_ != nullptr);
      US_ASSIGN(auto stop, text::StopStrings::create(prompt.stop));
      writer.output.emplace(*tokenizer_, std::move(stop), server::OutputText::Options{});
    }
    US_ASSIGN(const engine::SessionId id, engine_.start(prompt.ids, params));
    writers_.emplace(id, std::move(writer));
    ++num_started_;
    return {};
  }

  void take(const engine::StepEvent& event) {
    const auto found = writers_.find(event.session);
    US_CHECK(found != writers_.end(), "session {}", event.session);
    Writer& writer = found->second;
    if (writer.is_over) return;
    if (event.token) {
      answers_[writer.prompt].push_back(event.token->id);
      writer.is_over = writer.output && writer.output->push(event.token->id).stopped;
    }
    if (event.finished) writer.is_over = true;
    if (options_.progress && (event.token || writer.is_over)) {
      options_.progress(event.token ? 1 : 0, writer.is_over);
    }
  }

  engine::Engine& engine_;
  const text::Tokenizer* tokenizer_;
  std::span<const BenchPrompt> prompts_;
  const AnswerOptions& options_;
  size_t num_started_ = 0;
  std::map<engine::SessionId, Writer> writers_;
  std::vector<std::vector<int32_t>> answers_;
};

}  // namespace

Result<std::vector<std::vector<int32_t>>> write_answers(engine::Engine& engine,
                                                        const text::Tokenizer* tokenizer,
                                                        std::span<const BenchPrompt> prompts,
                                                        const AnswerOptions& options) {
  US_CHECK(options.streams > 0 && options.max_tokens > 0);
  US_CHECK(options.seeds.size() == prompts.size(), "{} seeds", options.seeds.size());
  return AnswerRun(engine, tokenizer, prompts, options).run();
}

}  // namespace ultraspeed::apps
