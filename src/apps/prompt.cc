#include "apps/prompt.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "apps/files.h"
#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

ordered_json user_messages(const std::optional<std::string>& system, std::string_view user) {
  ordered_json messages = ordered_json::array();
  if (system) messages.push_back({{"role", "system"}, {"content", *system}});
  messages.push_back({{"role", "user"}, {"content", user}});
  return messages;
}

Result<ordered_json> read_tools(const PromptOptions& options) {
  if (!options.tools_file) return ordered_json();
  US_ASSIGN(ordered_json tools, read_json_file(*options.tools_file));
  if (tools.is_array()) return tools;
  return make_error(ErrorCode::kInvalidArgument, "{}: expected a JSON array of tools",
                    file_label(*options.tools_file));
}

// Messages alone, or a whole request with "messages" and perhaps "tools".
Result<std::vector<int32_t>> encode_messages_file(const PromptOptions& options,
                                                  const LoadedModel& model) {
  const std::string& path = *options.messages_file;
  US_ASSIGN(ordered_json messages, read_json_file(path));
  US_ASSIGN(ordered_json tools, read_tools(options));
  if (messages.is_object() && messages.contains("messages")) {
    if (tools.is_null() && messages.contains("tools")) tools = messages["tools"];
    messages = ordered_json(messages["messages"]);
  }
  auto ids = encode_messages(model, messages, tools, options.chat);
  if (ids) return ids;
  return make_error(ids.error().code, "{}: {}", file_label(path), ids.error().message);
}

// For commands with --prompt-ids and --prompt.
Status check_takes_messages(const LoadedModel& model) {
  US_TRY(check_takes_text(model));
  const auto chat_template = model.require_chat_template();
  if (chat_template) return {};
  return make_error(chat_template.error().code, "{}; without one, give raw text with --prompt",
                    chat_template.error().message);
}

Result<Prompt> encode_sample(const PromptOptions& options, const LoadedModel& model) {
  const Sample* sample = options.sample ? find_sample(*options.sample) : &samples().front();
  if (sample == nullptr) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--sample {}: no such sample; --list-samples shows them", *options.sample);
  }
  Prompt prompt;
  prompt.is_sample = true;
  prompt.shown = sample->text;
  if (sample->kind == Sample::Kind::kRawText) {
    US_TRY(check_takes_text(model));
    prompt.stop = {std::string(kRawSampleStop)};
    US_ASSIGN(prompt.ids, encode_raw(model, sample->text));
    return prompt;
  }
  US_TRY(check_takes_messages(model));
  prompt.is_chat = true;
  prompt.shown += '\n';
  ordered_json tools;
  TemplateOptions chat = options.chat;
  if (sample->kind == Sample::Kind::kToolCall) {
    US_ASSIGN(tools, parse_json(sample_tools(), "sample tools"));
  } else if (!chat.thinking) {
    chat.thinking = false;
  }
  US_ASSIGN(prompt.ids,
            encode_messages(model, user_messages(options.system, sample->text), tools, chat));
  return prompt;
}

Result<std::vector<int32_t>> encode_input(const PromptOptions& options, const LoadedModel& model) {
  if (options.prompt_ids) return parse_token_ids(*options.prompt_ids, "--prompt-ids");
  const bool is_chat = options.messages_file || options.user;
  US_TRY(is_chat ? check_takes_messages(model) : check_takes_text(model));
  if (options.prompt) return encode_raw(model, *options.prompt);
  if (options.prompt_file) {
    US_ASSIGN(const std::string text, read_file(*options.prompt_file));
    return encode_raw(model, text);
  }
  if (options.messages_file) return encode_messages_file(options, model);
  US_ASSIGN(const ordered_json tools, read_tools(options));
  return encode_messages(model, user_messages(options.system, *options.user), tools, options.chat);
}

}  // namespace

void add_template_options(CLI::App& command, TemplateOptions* options) {
  CLI::Option* thinking = command.add_flag_callback(
      "--thinking", [options] { options->thinking = true; },
      "Set the chat template's enable_thinking (default: as the template has it)");
  command
      .add_flag_callback(
          "--no-thinking", [options] { options->thinking = false; }, "Clear it")
      ->excludes(thinking);
  command.add_flag("--hf-special-tokens", options->hf_special_tokens,
                   "Special-token strings inside messages become tokens, as with Hugging Face; "
                   "by default they stay text");
}

void add_prompt_options(CLI::App& command, PromptOptions* options) {
  CLI::App& inputs = *command.add_option_group("Prompt", "What to answer; one of");
  inputs.add_option("-u,--user", options->user, "A user's message, through the chat template");
  inputs.add_option("--messages", options->messages_file,
                    "JSON file with messages as in OpenAI's chat API (-: standard input)");
  inputs.add_option("-p,--prompt", options->prompt, "Raw text; special tokens are recognised");
  inputs.add_option("-f,--prompt-file", options->prompt_file,
                    "The same from a file, its last newline included (-: standard input)");
  inputs.add_option("--prompt-ids", options->prompt_ids, "Token ids, separated by commas");
  inputs.add_option("--sample", options->sample,
                    "One of --list-samples (default: the first), answered greedily unless "
                    "--temperature is given");
  inputs.require_option(0, 1);
  CLI::App& chat = *command.add_option_group("Chat", "With --user, --messages or --sample");
  chat.add_option("--system", options->system, "The system message before --user");
  chat.add_option("--tools", options->tools_file, "JSON file with an array of tools");
  add_template_options(chat, &options->chat);
}

Result<std::vector<int32_t>> encode_messages(const LoadedModel& model, const ordered_json& messages,
                                             const ordered_json& tools,
                                             const TemplateOptions& options) {
  US_ASSIGN(const text::ChatTemplate* chat_template, model.require_chat_template());
  text::ChatRequest request;
  request.messages = messages;
  request.tools = tools;
  request.enable_thinking = options.thinking;
  request.parse_special_in_input = options.hf_special_tokens;
  US_ASSIGN(const text::RenderedPrompt rendered, chat_template->render(request));
  return model.tokenizer()->encode(
      rendered.text,
      {.parse_special = true, .add_special_tokens = false, .plain_ranges = rendered.input_ranges});
}

server::ChatParserOptions answer_form(const LoadedModel& model, const std::vector<int32_t>& ids) {
  server::ChatParserOptions form;
  const auto think = model.tokenizer()->find_token("<think>");
  form.starts_in_reasoning = think && !ids.empty() && ids.back() == *think;
  const auto chat_template = model.require_chat_template();
  if (chat_template) form.syntax = server::detect_tool_syntax(*chat_template);
  return form;
}

Result<std::vector<int32_t>> encode_raw(const LoadedModel& model, std::string_view text) {
  US_ASSIGN(const text::Tokenizer* tokenizer, model.require_tokenizer());
  return tokenizer->encode(text,
                           {.parse_special = true, .add_special_tokens = true, .plain_ranges = {}});
}

Status check_takes_text(const LoadedModel& model) {
  const auto tokenizer = model.require_tokenizer();
  if (tokenizer) return {};
  return make_error(tokenizer.error().code, "{}; without one, give token ids with --prompt-ids",
                    tokenizer.error().message);
}

Result<Prompt> make_prompt(const PromptOptions& options, const LoadedModel& model) {
  const bool has_input = options.prompt_ids || options.prompt || options.prompt_file ||
                         options.messages_file || options.user;
  if (!has_input) return encode_sample(options, model);
  Prompt prompt;
  prompt.is_chat = options.messages_file || options.user;
  US_ASSIGN(prompt.ids, encode_input(options, model));
  return prompt;
}

Result<std::vector<int32_t>> parse_token_ids(std::string_view list, std::string_view flag) {
  constexpr std::string_view kSeparators = ", \t\r\n";
  std::vector<int32_t> ids;
  size_t begin = list.find_first_not_of(kSeparators);
  while (begin != std::string_view::npos) {
    const size_t end = std::min(list.find_first_of(kSeparators, begin), list.size());
    const std::string_view word = list.substr(begin, end - begin);
    int32_t id = 0;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || rest != word.data() + word.size() || id < 0) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: '{}' is no token id; expected numbers separated by commas", flag,
                        word);
    }
    ids.push_back(id);
    begin = list.find_first_not_of(kSeparators, end);
  }
  if (ids.empty()) return make_error(ErrorCode::kInvalidArgument, "{}: no token ids", flag);
  return ids;
}

}  // namespace ultraspeed::apps
