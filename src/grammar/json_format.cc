// RFC 3339 (date-time, date, time, and duration as its appendix A has it), RFC 5321 (email), RFC
// 1123 (hostname), RFC 2673 (ipv4), RFC 4291 (ipv6), RFC 4122 (uuid), RFC 3986 (uri).
#include "grammar/json_format.h"

#include <array>
#include <utility>

namespace ultraspeed::grammar {
namespace {

// Days of months, and 29 February in years of four digits that have it.
#define US_DATE                                                      \
  R"((?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|)"       \
  R"((?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|)" \
  R"((?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29))"
#define US_TIME                                        \
  R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?)" \
  R"((?:Z|[+\-](?:[01]\d|2[0-3]):[0-5]\d))"
#define US_LABEL "[A-Za-z0-9](?:[A-Za-z0-9\\-]{0,61}[A-Za-z0-9])?"
#define US_OCTET R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))"
#define US_GROUP "[0-9A-Fa-f]{1,4}"
#define US_SEGMENT_CHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@\\-]|%[0-9A-Fa-f]{2})"

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kFormats = {{
    {"date-time", US_DATE "T" US_TIME},
    {"date", US_DATE},
    {"time", US_TIME},
    {"duration",
     R"(P(?:\d{1,9}W|(?:\d{1,9}Y(?:\d{1,9}M(?:\d{1,9}D)?)?|\d{1,9}M(?:\d{1,9}D)?|\d{1,9}D))"
     R"((?:T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S))?|)"
     R"(T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S)))"},
    {"email", "[A-Za-z0-9_%+\\-]{1,32}(?:\\.[A-Za-z0-9_%+\\-]{1,16}){0,1}@" US_LABEL
              "(?:\\." US_LABEL "){1,3}"},
    {"hostname", US_LABEL "(?:\\." US_LABEL "){0,2}"},
    {"ipv4", US_OCTET "(?:\\." US_OCTET "){3}"},
    {"ipv6", "(?:" US_GROUP ":){7}" US_GROUP "|::(?:" US_GROUP "(?::" US_GROUP "){0,6})?|" US_GROUP
             "::(?:" US_GROUP "(?::" US_GROUP "){0,5})?|(?:" US_GROUP ":){2}(?::" US_GROUP
             "){1,5}|(?:" US_GROUP ":){3}(?::" US_GROUP "){1,4}|(?:" US_GROUP ":){4}(?::" US_GROUP
             "){1,3}|(?:" US_GROUP ":){5}(?::" US_GROUP "){1,2}|(?:" US_GROUP ":){6}:" US_GROUP
             "|(?:" US_GROUP ":){2,7}:"},
    {"uuid", "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"},
    {"uri",
     "[A-Za-z][A-Za-z0-9+.\\-]{0,15}:(?://[A-Za-z0-9.\\-]{1,253}(?::\\d{1,5})?"
     "(?:/" US_SEGMENT_CHAR "*)*|(?:/(?:" US_SEGMENT_CHAR "+(?:/" US_SEGMENT_CHAR "*)*)?)?)"
     "(?:\\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\\-]|%[0-9A-Fa-f]{2})*)?"
     "(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\\-]|%[0-9A-Fa-f]{2})*)?"},
}};

#undef US_DATE
#undef US_TIME
#undef US_LABEL
#undef US_OCTET
#undef US_GROUP
#undef US_SEGMENT_CHAR

}  // namespace

std::optional<std::string_view> format_pattern(std::string_view format) {
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return pattern;
  }
  return std::nullopt;
}

}  // namespace ultraspeed::grammar
