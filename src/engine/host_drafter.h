// Drafters that propose explicit tokens on the host. What they propose never changes a text, only
// how many steps it takes: the target verifies every draft token.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "program/step.h"

namespace ultraspeed::engine {

// Proposes what one session's text may go on with.
class HostDrafter {
 public:
  virtual ~HostDrafter() = default;

  // Appends at most `limit` draft tokens. `tokens` are the session's, prompt and output: those of
  // the call before, and what came since.
  virtual void propose(std::span<const int32_t> tokens, uint32_t limit,
                       std::vector<int32_t>* drafts) = 0;

  // After a step: takes what the program's MTP heads propose to follow the session's tokens,
  // ColumnOutput::proposed_ids and what they were drawn from. Only the drafter of
  // DrafterKind::kMtp, which proposes it, listens.
  virtual void take_proposed(program::ColumnOutput* /*output*/) {}

  // The logits that proposed draft `index` was drawn from, valid until take_proposed(); empty: it
  // was proposed without chance.
  virtual std::span<const float> logits_of(size_t /*index*/) const { return {}; }
};

// A drafter for a new session; nullptr: the program drafts (DrafterKind::kDflash).
std::unique_ptr<HostDrafter> make_host_drafter(const DrafterOptions& options,
                                               const GenerationParams& params, uint32_t prompt_size,
                                               uint32_t vocab_size);

}  // namespace ultraspeed::engine
