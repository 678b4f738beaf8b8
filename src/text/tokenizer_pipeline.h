// The members of tokenizer.json that describe the steps around the model; tokenizer_json.cc alone
// uses these. Each finds its member below the root and fills its part of the spec; the errors are
// those of parse_tokenizer_json().
#pragma once

#include "base/result.h"
#include "text/json_node.h"
#include "text/tokenizer_json.h"

namespace ultraspeed::text {

Status parse_normalizer(const JsonNode& root, TokenizerSpec& spec);
Status parse_pre_tokenizer(const JsonNode& root, TokenizerSpec& spec);
// REQUIRES: spec.ids is filled.
Status parse_post_processor(const JsonNode& root, TokenizerSpec& spec);
Status parse_decoder(const JsonNode& root);

}  // namespace ultraspeed::text
