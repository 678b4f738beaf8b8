// Unicode normalization form C (UAX #15), by utf8proc's tables (Unicode 15.0 in Debian 12).
#pragma once

#include <string_view>

#include "text/utf8.h"

namespace ultraspeed::text {

// NFC of a text, in O(n log n) for any input. REQUIRES: text is valid UTF-8.
RewrittenText normalize_nfc(std::string_view text);

}  // namespace ultraspeed::text
