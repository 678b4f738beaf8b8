// --drafter, --block and --acceptance: what proposes draft tokens, how many a step verifies, and
// how they are accepted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/engine.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

// What --drafter names.
struct DrafterChoice {
  engine::DrafterOptions options = {.kind = engine::DrafterKind::kSuffix};
  std::string folder;  // of kDflash, or its ORG/NAME; "": the folder dflash/ inside the model's
};

struct SpeculationOptions {
  std::optional<DrafterChoice> drafter;  // nullopt: dflash where the model has one, else suffix
  uint32_t block = 0;  // columns of a session in a step: its newest token and the drafts; 0: those
                       // that a DFlash drafter was trained on, one more than there are MTP layers
                       // with kMtp, else 8
  engine::Acceptance acceptance = engine::Acceptance::kKeyed;
};

// Each with an environment variable ULTRASPEED_NAME that the flag overrides.
void add_speculation_options(CLI::App& command, SpeculationOptions* options);

// --acceptance, for commands that sample; with an environment variable, too.
void add_acceptance_option(CLI::App& command, SpeculationOptions* options);

// "none", "suffix", "random", "replay:N", "mtp", "dflash", or a folder: a path with a slash,
// ORG/NAME among them, or the name of one that exists. Errors: kInvalidArgument; the sentence lists
// them.
Result<DrafterChoice> parse_drafter(std::string_view text);
std::string drafter_name(const DrafterChoice& choice);

// For commands that learn no output before they generate it. Errors: kInvalidArgument for replay,
// which would propose nothing.
Status check_needs_no_output(const SpeculationOptions& options);

// "keyed", "rejection". Errors: kInvalidArgument; the sentence lists them.
Result<engine::Acceptance> parse_acceptance(std::string_view text);
std::string_view acceptance_name(engine::Acceptance acceptance);

// What is wrong with a flag's text, as CLI11 asks for it; "" where `parse` takes it.
template <auto parse>
std::string error_of(const std::string& text) {
  const auto parsed = parse(text);
  return parsed ? "" : parsed.error().message;
}

}  // namespace ultraspeed::apps
