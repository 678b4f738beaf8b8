// From the flags that say what to ask to the prompt's token ids.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/loaded_model.h"
#include "base/result.h"
#include "server/chat_event.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// How messages become text.
struct TemplateOptions {
  std::optional<bool> thinking;    // the template's enable_thinking; absent: not defined
  bool hf_special_tokens = false;  // special-token strings inside messages become their tokens
};

// --thinking, --no-thinking, --hf-special-tokens.
void add_template_options(CLI::App& command, TemplateOptions* options);

// The ids of a conversation up to where the assistant answers. `messages` as in OpenAI's chat API;
// `tools` is an array or null. Errors: kInvalidArgument for malformed messages, those of the
// template.
Result<std::vector<int32_t>> encode_messages(const LoadedModel& model,
                                             const nlohmann::ordered_json& messages,
                                             const nlohmann::ordered_json& tools,
                                             const TemplateOptions& options);

// How the answer to a conversation's ids is read: in the form that the chat template tells, and
// inside of reasoning where the ids end with "<think>".
server::ChatParserOptions answer_form(const LoadedModel& model, const std::vector<int32_t>& ids);

// The ids of raw text: special-token strings become their tokens, and what the tokenizer's
// post-processor adds (a begin-of-text token) is added.
Result<std::vector<int32_t>> encode_raw(const LoadedModel& model, std::string_view text);

// For commands with --prompt-ids. Errors: kNotFound for a model without a tokenizer, which advises
// it.
Status check_takes_text(const LoadedModel& model);

// At most one of prompt, prompt_file, prompt_ids, user, messages_file and sample is given; none
// means the first sample.
struct PromptOptions {
  std::optional<std::string> prompt, prompt_file, prompt_ids, user, messages_file, sample;
  std::optional<std::string> system;      // with user
  std::optional<std::string> tools_file;  // with user or messages
  TemplateOptions chat;
};

void add_prompt_options(CLI::App& command, PromptOptions* options);

struct Prompt {
  std::vector<int32_t> ids;
  bool is_chat = false;           // of messages
  bool is_sample = false;         // and then:
  std::string shown;              // its text, for the person who did not type it
  std::vector<std::string> stop;  // where its answer ends
};

// Errors name the flag or file.
Result<Prompt> make_prompt(const PromptOptions& options, const LoadedModel& model);

// "1, 2 3": ids separated by commas or white space. `flag` is named in errors.
Result<std::vector<int32_t>> parse_token_ids(std::string_view list, std::string_view flag);

}  // namespace ultraspeed::apps
