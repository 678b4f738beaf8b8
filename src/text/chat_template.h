// The checkpoint's own chat template: from messages and tools to the prompt's text, as
// transformers' apply_chat_template renders it. The text comes with the byte ranges that stem from
// the request, in which the tokenizer is to read special-token strings as plain text
// (EncodeOptions::plain_ranges).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja_template.h"
#include "text/utf8.h"

namespace ultraspeed::text {

struct ChatRequest {
  nlohmann::ordered_json messages = nullptr;  // array of objects, see chat_template_messages.h
  nlohmann::ordered_json tools = nullptr;     // array of objects, or null
  bool add_generation_prompt = true;
  std::optional<bool> enable_thinking = std::nullopt;  // not given: the template's own default
  nlohmann::ordered_json extra = nullptr;  // object of further template variables, or null
  // Hugging Face's behaviour: special-token strings in the request become tokens too. A caller that
  // sets it lets the request forge turns.
  bool parse_special_in_input = false;
};

struct RenderedPrompt {
  std::string text;
  std::vector<ByteRange> input_ranges;  // ascending, disjoint; empty with parse_special_in_input
};

// Immutable; may render on many threads at once.
class ChatTemplate {
 public:
  // Reads chat_template.jinja from a checkpoint's directory or else "chat_template" from its
  // tokenizer_config.json: a string, or a list of {name, template} with "default" and perhaps
  // "tool_use". Special tokens (bos_token, ...) come from tokenizer_config.json where there is one.
  // Errors name the file: kNotFound, kIo, kInvalidData, kUnsupported.
  static Result<ChatTemplate> load(const std::string& dir);

  // From source texts; `special_tokens` is the object of variables such as bos_token.
  static Result<ChatTemplate> from_source(std::string_view source,
                                          nlohmann::ordered_json special_tokens = {});

  // The template writes turns in channels, as gpt-oss's does; messages are then brought into the
  // form of chat_template_harmony.h.
  bool is_harmony() const { return is_harmony_; }

  // Errors: kInvalidArgument for a malformed request or one that the template refuses, with the
  // place in the request or in the template; kUnsupported for what neither can express.
  Result<RenderedPrompt> render(ChatRequest request,
                                const jinja::RenderOptions& options = {}) const;

 private:
  ChatTemplate(jinja::Template main, std::optional<jinja::Template> with_tools,
               nlohmann::ordered_json special_tokens, bool is_harmony)
      : main_(std::move(main)),
        with_tools_(std::move(with_tools)),
        special_tokens_(std::move(special_tokens)),
        is_harmony_(is_harmony) {}

  Result<nlohmann::ordered_json> input_variables(ChatRequest request) const;

  jinja::Template main_;
  std::optional<jinja::Template> with_tools_;  // for requests with tools
  nlohmann::ordered_json special_tokens_;
  bool is_harmony_;
};

}  // namespace ultraspeed::text
