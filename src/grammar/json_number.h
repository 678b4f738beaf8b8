// Numbers between bounds, as digits.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"

namespace ultraspeed::grammar {

struct NumberBound {
  bool is_negative = false;
  std::string integer = "0";  // digits without leading zeros
  std::string fraction;       // digits without trailing zeros
  bool is_exclusive = false;
};

// Errors: kUnsupported, beginning with `where`, for more digits than json_text.h allows.
Result<NumberBound> number_bound(const Json& number, bool is_exclusive, std::string_view where);

// Integers or numbers between the bounds, without an exponent and with as many digits as
// json_text.h allows; no bound: as far as those go. Nothing where no number lies between.
ExprId add_number_between(const std::optional<NumberBound>& low,
                          const std::optional<NumberBound>& high, bool is_integer,
                          GrammarBuilder* builder);

}  // namespace ultraspeed::grammar
