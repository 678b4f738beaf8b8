// Hugging Face's tokenizer.json, the parts that byte-level BPE tokenizers use. Source: the serde
// definitions of the reference library (github.com/huggingface/tokenizers, version 0.23).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"

namespace ultraspeed::text {

// Ids at or above this are refused, so that a file cannot ask for unbounded memory.
inline constexpr int64_t kMaxTokens = int64_t{1} << 21;

// The contents of a tokenizer.json. Every id is in [0, kMaxTokens) and belongs to one token.
struct TokenizerSpec {
  std::unordered_map<std::string, int32_t> ids;  // by spelling, added tokens included
  std::array<int32_t, 256> byte_tokens{};        // Bpe::kNoToken for bytes not in UTF-8
  std::vector<BpeMerge> merges;
  bool ignore_merges = false;  // a word that is a token is that token
  std::vector<AddedToken> added_tokens;
  bool normalizes_nfc = false;
  PreTokenizer pre_tokenizer;
  std::vector<int32_t> prefix_ids;  // what the post-processor puts before and behind a text
  std::vector<int32_t> suffix_ids;
};

// Parses a tokenizer.json; `name` is the file in error messages. Errors, each with the JSON path:
// kInvalidData for what is malformed or contradicts itself, kUnsupported for constructs of the
// format that this library does not implement.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view json, const std::string& name);

}  // namespace ultraspeed::text
