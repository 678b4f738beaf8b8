// The negative log-likelihood of a text's tokens, for texts of any length.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace ultraspeed::apps {

// A text longer than `window` is read in windows that overlap: each scores the `stride` tokens that
// the one before did not, with the window - stride tokens (at least one) before them as context.
struct ScoreWindows {
  uint32_t window = 0;  // tokens, at most the engine's context
  uint32_t stride = 0;  // 1 to window - 1
};

// nll[i] = -log p(tokens[i + 1] | the tokens before it in its window), in nats; the first token has
// none. `progress` gets the tokens done. REQUIRES: windows in range. Errors: kInvalidArgument for
// fewer than two tokens, those of the engine.
Result<std::vector<float>> score_tokens(engine::Engine& engine, std::span<const int32_t> tokens,
                                        const ScoreWindows& windows,
                                        const std::function<void(size_t)>& progress);

double mean_of(std::span<const float> values);

}  // namespace ultraspeed::apps
