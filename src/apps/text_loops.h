// Texts that end by repeating themselves: greedy decoding of a small model does that, and any
// drafter that can copy is right there, so figures of acceptance are given without them, too.
#pragma once

#include <cstdint>
#include <span>

namespace ultraspeed::apps {

inline constexpr size_t kMaxLoopPeriod = 64;
inline constexpr size_t kMinLoopTokens = 24;

// Whether the last tokens have a period of at most kMaxLoopPeriod: at least kMinLoopTokens of them,
// and three times the period.
bool ends_in_loop(std::span<const int32_t> text);

}  // namespace ultraspeed::apps
