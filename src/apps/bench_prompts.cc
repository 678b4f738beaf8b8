#include "apps/bench_prompts.h"

#include <utility>

#include "apps/bench_edits.h"
#include "apps/files.h"
#include "apps/prompt.h"
#include "apps/prompt_source.h"
#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

Result<std::vector<int32_t>> encode(const LoadedModel& model, const PromptSource& source) {
  switch (source.kind) {
    case PromptSource::Kind::kText:
      return encode_raw(model, source.value.get<std::string>());
    case PromptSource::Kind::kMessages:
      return encode_messages(model, source.value, source.tools, {});
    case PromptSource::Kind::kIds:
      return source.value.get<std::vector<int32_t>>();
  }
  return std::vector<int32_t>();
}

Result<BenchPrompt> encode_sample(const LoadedModel& model, const Sample& sample) {
  BenchPrompt prompt{.name = std::string(sample.name), .ids = {}, .stop = {}};
  PromptOptions options;
  options.sample = prompt.name;
  US_ASSIGN(Prompt made, make_prompt(options, model));
  prompt.ids = std::move(made.ids);
  prompt.stop = std::move(made.stop);
  return prompt;
}

}  // namespace

Result<std::vector<BenchPrompt>> built_in_prompts(const LoadedModel& model) {
  std::vector<BenchPrompt> prompts;
  for (const Sample& sample : samples()) {
    const bool is_raw = sample.kind == Sample::Kind::kRawText;
    if (!is_raw && model.chat_template() == nullptr) continue;
    US_ASSIGN(BenchPrompt prompt, encode_sample(model, sample));
    prompts.push_back(std::move(prompt));
  }
  for (const BenchEdit& edit : bench_edits()) {
    BenchPrompt prompt{.name = std::string(edit.name), .ids = {}, .stop = {std::string(edit.stop)}};
    US_ASSIGN(prompt.ids, encode_raw(model, edit.text));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Result<std::vector<BenchPrompt>> read_prompts(const LoadedModel& model, const std::string& path) {
  US_ASSIGN(std::vector<PromptSource> sources, read_prompt_sources(path));
  std::vector<BenchPrompt> prompts;
  for (PromptSource& source : sources) {
    auto ids = encode(model, source);
    if (!ids) {
      return make_error(ids.error().code, "{}: prompt {}: {}", file_label(path), prompts.size() + 1,
                        ids.error().message);
    }
    if (!source.stop.empty()) US_TRY(model.require_tokenizer());
    prompts.push_back({.name = std::move(source.name),
                       .ids = std::move(*ids),
                       .stop = std::move(source.stop),
                       .family = std::move(source.family)});
  }
  return prompts;
}

}  // namespace ultraspeed::apps
