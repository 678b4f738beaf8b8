// --drafter and --block: what proposes draft tokens, and how many a step verifies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/engine.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

struct SpeculationOptions {
  engine::DrafterOptions drafter = {.kind = engine::DrafterKind::kSuffix};
  uint32_t block = 8;  // columns of a session in a step: its newest token and block - 1 drafts
  engine::Acceptance acceptance = engine::Acceptance::kKeyed;
};

// Each with an environment variable ULTRASPEED_NAME that the flag overrides.
void add_speculation_options(CLI::App& command, SpeculationOptions* options);

// --acceptance, for commands that sample; with an environment variable, too.
void add_acceptance_option(CLI::App& command, SpeculationOptions* options);

// Errors: kInvalidArgument for a replay of more tokens than a block has.
Status check_speculation(const SpeculationOptions& options);

// "none", "suffix", "random", "replay:N". Errors: kInvalidArgument; the sentence lists them.
Result<engine::DrafterOptions> parse_drafter(std::string_view text);
std::string drafter_name(const engine::DrafterOptions& drafter);

// "keyed", "rejection". Errors: kInvalidArgument; the sentence lists them.
Result<engine::Acceptance> parse_acceptance(std::string_view text);

}  // namespace ultraspeed::apps
