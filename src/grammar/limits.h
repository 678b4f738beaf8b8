// What bounds the compilation of a grammar, whoever wrote it: sizes, nesting, and work, so that an
// answer or an error comes within 50 ms.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace ultraspeed::grammar {

inline constexpr size_t kMaxSourceBytes = 256 << 10;  // of a grammar, expression or schema
inline constexpr uint32_t kMaxDepth = 100;            // of groups, of nested schemas
inline constexpr uint32_t kMaxRules = 4096;
inline constexpr uint32_t kMaxExpressions = 1 << 16;
inline constexpr uint32_t kMaxRepeat = 65535;       // of {m,n}, minLength, maxItems, ...
inline constexpr uint64_t kMaxNfaStates = 1 << 17;  // of one rule
inline constexpr uint32_t kMaxStates = 1 << 16;     // of all rules, deterministic
inline constexpr uint64_t kMaxWork = 5 << 20;       // elementary steps, about 5 ns each

// The steps that a compilation has left.
class Budget {
 public:
  // Errors: kOutOfMemory when the steps are used up.
  Status spend(uint64_t steps) {
    used_ += steps;
    if (used_ <= kMaxWork) return {};
    return make_error(ErrorCode::kOutOfMemory,
                      "the grammar is too complex: it takes more than {} steps to compile",
                      kMaxWork);
  }

 private:
  uint64_t used_ = 0;
};

}  // namespace ultraspeed::grammar
