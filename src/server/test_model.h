// The bundled model's tokenizer and chat template, for the server's tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

const text::Tokenizer& test_tokenizer();
const text::ChatTemplate& test_chat_template();
// One of tests/data/jinja/templates, which are in the manner of other families.
const text::ChatTemplate& test_template(const std::string& name);
// The bundled model's tokenizer with the tokens of the harmony format.
const text::Tokenizer& harmony_tokenizer();
// The ids of a text; strings such as "<think>" become their token.
std::vector<int32_t> test_ids(std::string_view text);

inline constexpr int32_t kTestStopId = 2;  // <|im_end|>

}  // namespace ultraspeed::server
