// Flags that say how tokens are chosen and when to stop, on top of the model's own defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

class LoadedModel;

struct SamplingOptions {
  // Absent: generation_config.json's value, else neutral.
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<uint32_t> top_k;
  bool greedy = false;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
  std::optional<uint64_t> seed;
  std::optional<uint32_t> max_tokens;  // 0: to the end of the context
  std::vector<std::string> stop;
  bool ignore_eos = false;
  uint32_t num_logprobs = 0;
};

void add_sampling_options(CLI::App& command, SamplingOptions* options);

// The model's defaults overridden by the flags; a model whose do_sample is false is greedy unless
// --temperature is given. `seed` and `max_tokens` are for absent flags. Errors: kInvalidArgument
// for a malformed --logit-bias; the engine checks ranges.
Result<engine::GenerationParams> generation_params(const SamplingOptions& options,
                                                   const LoadedModel& model, uint64_t seed,
                                                   uint32_t max_tokens);

}  // namespace ultraspeed::apps
