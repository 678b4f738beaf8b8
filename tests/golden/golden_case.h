// Golden outputs of implementations that are not ours: prompts, greedy continuations and the
// largest logits at each step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "support/model_runner.h"

namespace ultraspeed::test {

struct GoldenCase {
  std::string name;
  std::string prompt;  // empty for checkpoints without a tokenizer
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> greedy_ids;
  std::vector<TopLogits> top;  // [greedy_ids]
};

// The cases of the bundled model: one file each. CHECKs that there are 12.
std::vector<GoldenCase> tiny_mimo_cases();

// The cases of a reference checkpoint's golden.json.
std::vector<GoldenCase> reference_cases(const std::string& directory);

// How a model's own outputs differ from a case under teacher forcing.
struct Comparison {
  uint32_t wrong_tokens = 0;     // steps whose largest logit is not the golden token's
  float largest_difference = 0;  // of the golden top logits
  float smallest_gap = 0;        // between the golden first and second logit
};
Result<Comparison> compare(ModelRunner* runner, const GoldenCase& golden);

}  // namespace ultraspeed::test
