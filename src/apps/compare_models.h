// What a model that was changed, by quantising above all, predicts otherwise than the one it was
// made from: on a text, over the whole vocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "apps/loaded_model.h"
#include "apps/mode_model.h"
#include "apps/mode_statistics.h"
#include "apps/score.h"
#include "base/result.h"

namespace ultraspeed::apps {

struct Comparison {
  Statistics statistics;  // of the reference's distributions p and the model's q
  double reference_nll = 0;
};

// Both models read the text in the same windows and the same arithmetic, on the processor, each on
// a thread of its own. `progress` gets the tokens done. REQUIRES: windows in range.
// Errors: kInvalidArgument for vocabularies of different sizes, texts of fewer than three tokens
// and tokens that are none.
Result<Comparison> compare_models(const LoadedModel& model, const LoadedModel& reference,
                                  const Mode& mode, std::span<const int32_t> tokens,
                                  const ScoreWindows& windows,
                                  const std::function<void(size_t)>& progress);

}  // namespace ultraspeed::apps
