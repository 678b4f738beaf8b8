// Drafters that propose explicit tokens on the host. What they propose never changes a text, only
// how many steps it takes: the target verifies every draft token.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace ultraspeed::engine {

// Proposes what one session's text may go on with.
class HostDrafter {
 public:
  virtual ~HostDrafter() = default;

  // Appends at most `limit` draft tokens. `tokens` are the session's, prompt and output: those of
  // the call before, and what came since.
  virtual void propose(std::span<const int32_t> tokens, uint32_t limit,
                       std::vector<int32_t>* drafts) = 0;

  // After a step: what the program's MTP heads propose to follow the session's tokens. Only the
  // drafter of DrafterKind::kMtp, which proposes it, listens.
  virtual void take_proposed(std::span<const int32_t> /*proposed_ids*/) {}
};

// A drafter for a new session; nullptr: the program drafts (DrafterKind::kDflash).
std::unique_ptr<HostDrafter> make_host_drafter(const DrafterOptions& options,
                                               const GenerationParams& params, uint32_t prompt_size,
                                               uint32_t vocab_size);

}  // namespace ultraspeed::engine
