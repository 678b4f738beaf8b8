// tokenizer.json holds regular expressions in Oniguruma's Ruby syntax, which the reference library
// runs; we run PCRE2. This translates the part of the syntax that pre-tokenizers use, so that both
// mean the same, and refuses the rest by name.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::text {

// A PCRE2 pattern (for PCRE2_UTF | PCRE2_UCP, newline LF, no other options) that matches what the
// Oniguruma pattern matches. In particular \s and \S mean Unicode's White_Space, which PCRE2 before
// 10.43 gets wrong for U+180E, and no group captures. Errors: kUnsupported, naming the construct
// and its byte offset. REQUIRES: pattern is valid UTF-8.
Result<std::string> translate_oniguruma(std::string_view pattern);

}  // namespace ultraspeed::text
