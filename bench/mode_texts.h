// Texts that a model knows: what it writes itself.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "apps/loaded_model.h"
#include "base/result.h"

namespace ultraspeed {

// Tokens of which those before `first` are given and the others are to be predicted.
struct KnownText {
  std::vector<int32_t> tokens;
  uint32_t first = 0;

  uint32_t num_scored() const { return static_cast<uint32_t>(tokens.size()) - first; }
};

struct TextOptions {
  uint32_t num_tokens = 0;   // to predict in all
  uint32_t text_tokens = 0;  // sampled in each text
  uint32_t seed = 0;
  uint32_t num_threads = 1;
};

// `beginnings`, whole, and then as many samples at temperature 1 as make num_tokens: each continues
// a part of a beginning's prompt, of random length, past the ends of turns and documents. The same
// texts for the same options, whatever the threads. `progress` gets the tokens so far.
Result<std::vector<KnownText>> known_texts(const apps::LoadedModel& model,
                                           const std::vector<KnownText>& beginnings,
                                           const TextOptions& options,
                                           const std::function<void(size_t)>& progress);

}  // namespace ultraspeed
