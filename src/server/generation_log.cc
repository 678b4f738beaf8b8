#include "server/generation_log.h"

namespace ultraspeed::server {

std::optional<Timings> GenerationLog::timings() const {
  if (completion_tokens == 0) return std::nullopt;
  Timings timings;
  timings.prefill_ms = 1000 * prefill_s();
  if (last_token > first_token) {
    timings.tokens_per_second = static_cast<double>(completion_tokens - 1) / decode_s();
  }
  timings.accepted_length = speculation.accepted_length();
  return timings;
}

}  // namespace ultraspeed::server
