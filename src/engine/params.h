// Checks of what a caller asks for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "engine/engine.h"

namespace ultraspeed::engine {

inline constexpr float kMaxTemperature = 100;
inline constexpr float kMinRepetitionPenalty = 0.01F;
inline constexpr float kMaxRepetitionPenalty = 100;
inline constexpr float kMaxCountPenalty = 2;  // presence and frequency, as in OpenAI's API
inline constexpr float kMaxLogitBias = 100;   // as in OpenAI's API
inline constexpr uint32_t kMaxLogprobs = 128;

// What a checkpoint's generation_config.json asks for where the caller says nothing.
SamplingParams default_sampling(const model::GenerationConfig& generation);

// Errors: kInvalidArgument; the sentence names the field, its value and the allowed range.
Status check_params(const GenerationParams& params, uint32_t vocab_size);

// That there is at least one token and that all are ids of the vocabulary. `what` names the list
// ("the prompt"). Errors: kInvalidArgument.
Status check_token_ids(std::string_view what, std::span<const int32_t> token_ids,
                       uint32_t vocab_size);

}  // namespace ultraspeed::engine
