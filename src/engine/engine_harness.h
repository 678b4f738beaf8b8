// For the engine's tests: an engine over a FakeExecutor, and the text that a session must give.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/fake_executor.h"
#include "engine/program_engine.h"
#include "engine/speculation.h"

namespace ultraspeed::engine {

struct HarnessOptions {
  uint32_t decode_width = 4;
  uint32_t prefill_width = 8;
  uint32_t page_positions = 4;
  uint32_t max_context = 64;
  uint32_t max_sessions = 4;
  uint32_t num_kv_pages = 64;
  DrafterOptions drafter = {};
  uint32_t block_size = 1;
  uint32_t num_cached_prefixes = 0;
  bool has_plain_decode = false;
};

inline HarnessOptions drafting(DrafterKind kind, uint32_t tokens_per_cycle = 1,
                               uint32_t block_size = 8) {
  HarnessOptions options;
  options.decode_width = 8;
  options.drafter = {kind, tokens_per_cycle};
  options.block_size = block_size;
  return options;
}

// `size` tokens: `first`, `first` + 1, ...
inline std::vector<int32_t> prompt_of(size_t size, int32_t first = 1) {
  std::vector<int32_t> prompt(size);
  std::iota(prompt.begin(), prompt.end(), first);
  return prompt;
}

// Allows everything.
class AnyToken final : public TokenConstraint {
 public:
  void mask(std::span<const int32_t>, std::span<uint64_t>) override {}
  void advance(int32_t) override {}
  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<AnyToken>(*this);
  }
};

// What a session has given so far.
struct Transcript {
  std::vector<int32_t> tokens;
  std::optional<FinishReason> finished;

  bool operator==(const Transcript&) const = default;
};

class Harness {
 public:
  explicit Harness(const HarnessOptions& options = {}) {
    auto owned = std::make_unique<FakeExecutor>();
    executor = owned.get();
    const EngineSettings settings{
        FakeExecutor::kVocabSize,
        options.max_context,
        {options.max_sessions + options.num_cached_prefixes, options.num_kv_pages},
        options.drafter,
        options.block_size,
        {},
        options.num_cached_prefixes};
    auto programs = FakeExecutor::make_programs(
        options.decode_width, options.prefill_width, options.page_positions,
        options.drafter.kind == DrafterKind::kDflash, num_mtp_heads(options));
    if (options.has_plain_decode) {
      programs.push_back(FakeExecutor::make_programs(options.decode_width, options.prefill_width,
                                                     options.page_positions)[0]);
    }
    engine =
        std::move(ProgramEngine::make(std::move(programs), std::move(owned), settings, {})).value();
  }

  // One step, its events added to transcripts and last_events.
  Status step() {
    last_events.clear();
    const Status status = engine->step(&last_events);
    for (const StepEvent& event : last_events) {
      Transcript& transcript = transcripts[event.session];
      if (event.token) transcript.tokens.push_back(event.token->id);
      if (event.finished) transcript.finished = event.finished;
      if (event.cycle) speculation[event.session].add(*event.cycle);
    }
    return status;
  }

  Status run_until_idle() {
    while (!engine->idle()) US_TRY(step());
    return {};
  }

  // As many as fill a block.
  static uint32_t num_mtp_heads(const HarnessOptions& options) {
    return options.drafter.kind == DrafterKind::kMtp ? options.block_size - 1 : 0;
  }

  FakeExecutor* executor;
  std::unique_ptr<ProgramEngine> engine;
  std::vector<StepEvent> last_events;
  std::map<SessionId, Transcript> transcripts;
  std::map<SessionId, SpeculationStats> speculation;
};

// The whole text of a session that never lacks pages, made with nothing of the engine.
inline Transcript expected_transcript(std::span<const int32_t> prompt,
                                      const GenerationParams& params, uint32_t max_context) {
  const SamplingParams& from = params.sampling;
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  Transcript transcript;
  while (!transcript.finished) {
    std::map<int32_t, program::LogitAdjustment> adjustments;
    for (const auto& [id, bias] : from.logit_bias) adjustments[id] = {id, 1, bias};
    for (const int32_t id : tokens) {
      adjustments.try_emplace(id, program::LogitAdjustment{id, 1, 0});
      adjustments[id].repetition = from.repetition_penalty;
      const auto count = std::count(transcript.tokens.begin(), transcript.tokens.end(), id);
      if (count == 0) continue;
      float bias = 0;
      for (const auto& [bias_id, value] : from.logit_bias) bias += bias_id == id ? value : 0;
      adjustments[id].bias =
          bias - from.presence_penalty - from.frequency_penalty * static_cast<float>(count);
    }
    std::vector<program::LogitAdjustment> list;
    for (const auto& [id, adjustment] : adjustments) list.push_back(adjustment);
    program::ColumnSampling sampling;
    sampling.temperature = from.temperature;
    sampling.top_k = from.top_k;
    sampling.top_p = from.top_p;
    sampling.min_p = from.min_p;
    sampling.seed = from.seed;
    sampling.adjustments = list;
    const int32_t next = FakeExecutor::choose(tokens, sampling);
    tokens.push_back(next);
    transcript.tokens.push_back(next);
    if (tokens.size() == max_context || transcript.tokens.size() == params.max_tokens) {
      transcript.finished = FinishReason::kLength;
    }
    if (!params.ignore_eos && std::ranges::count(params.stop_ids, next) != 0) {
      transcript.finished = FinishReason::kStop;
    }
  }
  return transcript;
}

// What the engine's caches hold, in whole blocks: domains, and tokens from a text's begin.
using BlockText = std::pair<std::string, std::vector<int32_t>>;

inline std::set<BlockText> blocks_held(const ProgramEngine& engine, uint32_t page_positions) {
  std::set<BlockText> texts;
  for (uint32_t slot = 0; slot < engine.num_slots(); ++slot) {
    const HeldText held = engine.held_in(slot);
    const auto begin = held.tokens.begin();
    for (size_t end = page_positions; end <= held.tokens.size(); end += page_positions) {
      texts.emplace(std::string(held.domain),
                    std::vector(begin, begin + static_cast<ptrdiff_t>(end)));
    }
  }
  return texts;
}

}  // namespace ultraspeed::engine
