// Whose turn it is: which sessions the next step serves. Knows sessions by their slot only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ultraspeed::engine {

// Prompts are prefilled one after the other, in order of arrival. Sessions past their prompt decode
// together; when they are more than the columns, those served longest ago come first. While both
// are wanted, prefill and decode steps alternate, so that neither waits for the other's end.
class RequestScheduler {
 public:
  enum class Phase { kIdle, kPrefill, kDecode };
  struct Turn {
    Phase phase = Phase::kIdle;
    std::vector<uint32_t> slots;  // one for kPrefill, 1 to decode_width for kDecode
  };

  void admit(uint32_t slot);           // a new session, whose prompt waits
  void admit_decoding(uint32_t slot);  // a new session that decodes at once
  void prompt_done(uint32_t slot);     // it decodes from now on
  void remove(uint32_t slot);          // it has ended; unknown slots are ignored
  bool idle() const { return prefilling_.empty() && decoding_.empty(); }

  // The next turn, which counts as taken.
  Turn next(uint32_t decode_width);

 private:
  std::vector<uint32_t> prefilling_;  // in order of arrival
  std::vector<uint32_t> decoding_;    // the one served longest ago first
  bool decode_is_next_ = false;       // when both are wanted
};

// Shares a step's columns out, one a round to everybody who wants more; in the last round those in
// front come first. REQUIRES: all want at least one, and there are columns for that.
std::vector<uint32_t> share_columns(std::span<const uint32_t> wanted, uint32_t num_columns);

}  // namespace ultraspeed::engine
