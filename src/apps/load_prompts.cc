#include "apps/load_prompts.h"

#include <utility>

#include "apps/files.h"
#include "apps/prompt_source.h"
#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

std::vector<PromptSource> sample_sources() {
  std::vector<PromptSource> sources;
  for (const Sample& sample : samples()) {
    PromptSource source;
    source.name = sample.name;
    source.value = sample.text;
    sources.push_back(std::move(source));
  }
  return sources;
}

Result<ordered_json> chat_fields(PromptSource source) {
  if (source.kind == PromptSource::Kind::kIds) {
    return make_error(ErrorCode::kInvalidArgument,
                      "token ids are no messages; they need --endpoint completions");
  }
  ordered_json fields;
  if (source.kind == PromptSource::Kind::kMessages) {
    fields["messages"] = std::move(source.value);
  } else {
    fields["messages"] = {{{"role", "user"}, {"content", std::move(source.value)}}};
  }
  if (!source.tools.is_null()) fields["tools"] = std::move(source.tools);
  return fields;
}

Result<ordered_json> completion_fields(PromptSource source) {
  if (source.kind == PromptSource::Kind::kMessages) {
    return make_error(ErrorCode::kInvalidArgument, "messages need --endpoint chat");
  }
  ordered_json fields;
  fields["prompt"] = std::move(source.value);
  return fields;
}

}  // namespace

Result<std::vector<ordered_json>> load_prompts(const std::optional<std::string>& file,
                                               Endpoint endpoint) {
  std::vector<PromptSource> sources = sample_sources();
  if (file) {
    US_ASSIGN(sources, read_prompt_sources(*file));
  }
  std::vector<ordered_json> prompts;
  for (PromptSource& source : sources) {
    const std::vector<std::string> stop = std::exchange(source.stop, {});
    auto fields = endpoint == Endpoint::kChat ? chat_fields(std::move(source))
                                              : completion_fields(std::move(source));
    if (!fields) {
      return make_error(fields.error().code, "{}: prompt {}: {}", file_label(file.value_or("")),
                        prompts.size() + 1, fields.error().message);
    }
    if (!stop.empty()) (*fields)["stop"] = stop;
    prompts.push_back(std::move(*fields));
  }
  return prompts;
}

}  // namespace ultraspeed::apps
