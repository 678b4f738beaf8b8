// What `bench decode` decodes: built-in prompts, or those of a file.
#pragma once

#include <string>
#include <vector>

#include "apps/bench_decode.h"
#include "apps/loaded_model.h"
#include "base/result.h"

namespace ultraspeed::apps {

// The samples, and beginnings of edited code that the bundled model goes on with by repeating what
// stands above: what suffix lookup is for. Errors: kNotFound for a model without a tokenizer.
Result<std::vector<BenchPrompt>> built_in_prompts(const LoadedModel& model);

// Those of a file, as prompt_source.h says, as the model's tokens. Errors name file and prompt.
Result<std::vector<BenchPrompt>> read_prompts(const LoadedModel& model, const std::string& path);

}  // namespace ultraspeed::apps
