// Writing the JSON of answers straight into a string: it is in the path of every token, where a
// JSON library costs ten times as much.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// A JSON string with its quotes. REQUIRES: text is valid UTF-8.
void append_json_string(std::string& out, std::string_view text);
// The same without the quotes.
void append_json_escaped(std::string& out, std::string_view text);

// [{token, logprob, bytes, top_logprobs}, ...]
void append_token_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                           std::span<const engine::Token> tokens);
// The "logprobs" object of a chat choice: {"content": [{token, logprob, bytes, top_logprobs},
// ...]}.
void append_chat_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                          std::span<const engine::Token> tokens);

// The "prompt_logprobs" of vLLM: null for the first token, then {"ID": {logprob, rank,
// decoded_token}} of each one and its alternatives. The rank of a token that is none of these is
// not known: null.
void append_prompt_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                            std::span<const engine::Token> tokens);

// The "logprobs" object of a completion choice: {tokens, token_logprobs, top_logprobs,
// text_offset}. `text_offset` is the first token's place in the text, in characters, and is moved
// on. Where nothing is known of the first token, a prompt's, null stands for its numbers. Tokens
// that are not whole characters are written as "bytes:\xE2\x82", as OpenAI's API does.
void append_completion_logprobs(std::string& out, const text::Tokenizer& tokenizer,
                                std::span<const engine::Token> tokens, bool is_first_unknown,
                                size_t* text_offset);

size_t count_characters(std::string_view utf8);

}  // namespace ultraspeed::server
