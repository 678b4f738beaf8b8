#include "apps/drafter_option.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <utility>

#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

using engine::DrafterKind;

constexpr std::string_view kReplayPrefix = "replay:";
constexpr std::array<std::pair<std::string_view, DrafterKind>, 3> kNamed = {
    {{"none", DrafterKind::kNone},
     {"suffix", DrafterKind::kSuffix},
     {"random", DrafterKind::kRandom}}};

}  // namespace

Result<engine::DrafterOptions> parse_drafter(std::string_view text) {
  for (const auto& [name, kind] : kNamed) {
    if (text == name) return engine::DrafterOptions{.kind = kind};
  }
  if (text.starts_with(kReplayPrefix)) {
    const std::string_view number = text.substr(kReplayPrefix.size());
    engine::DrafterOptions drafter{.kind = DrafterKind::kReplay};
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), drafter.tokens_per_cycle);
    const bool is_number = error == std::errc() && end == number.data() + number.size();
    if (is_number && drafter.tokens_per_cycle >= 1) return drafter;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is no drafter; expected none, suffix, random or replay:N with N from 1 "
                    "to the block (drafters with weights of their own are not supported yet)",
                    text);
}

Status check_speculation(const SpeculationOptions& options) {
  const engine::DrafterOptions& drafter = options.drafter;
  if (drafter.kind != DrafterKind::kReplay || drafter.tokens_per_cycle <= options.block) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--drafter {}: more than the block of {} tokens (see --block)",
                    drafter_name(drafter), options.block);
}

std::string drafter_name(const engine::DrafterOptions& drafter) {
  for (const auto& [name, kind] : kNamed) {
    if (drafter.kind == kind) return std::string(name);
  }
  return fmt::format("{}{}", kReplayPrefix, drafter.tokens_per_cycle);
}

void add_speculation_options(CLI::App& command, SpeculationOptions* options) {
  CLI::App& app = *command.add_option_group(
      "Speculation", "Several tokens a step; the text is the same with any of these");
  const auto take = [options](const std::string& text) { options->drafter = *parse_drafter(text); };
  const auto check = [](const std::string& text) {
    const auto drafter = parse_drafter(text);
    return drafter ? "" : drafter.error().message;
  };
  app.add_option_function<std::string>(
         "--drafter", take,
         "What proposes tokens: none, suffix (what followed before), or for measurements random "
         "ids or replay:N (N tokens a step; run generates once before to learn them)")
      ->check(check)
      ->envname("ULTRASPEED_DRAFTER")
      ->default_str(drafter_name(options->drafter));
  app.add_option("--block", options->block,
                 "Tokens of a session that a step verifies: its newest and the proposed")
      ->check(CLI::Range(1U, plan::kMaxWidth))
      ->envname("ULTRASPEED_BLOCK")
      ->capture_default_str();
}

Result<engine::Acceptance> parse_acceptance(std::string_view text) {
  if (text == "keyed") return engine::Acceptance::kKeyed;
  if (text == "rejection") return engine::Acceptance::kRejection;
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is no acceptance; expected keyed or rejection", text);
}

void add_acceptance_option(CLI::App& command, SpeculationOptions* options) {
  const auto take = [options](const std::string& text) {
    options->acceptance = *parse_acceptance(text);
  };
  const auto check = [](const std::string& text) {
    const auto acceptance = parse_acceptance(text);
    return acceptance ? "" : acceptance.error().message;
  };
  command
      .add_option_function<std::string>(
          "--acceptance", take,
          "How drafts are accepted above temperature 0: keyed (the text does not depend on the "
          "drafter) or rejection (only its distribution does not)")
      ->check(check)
      ->envname("ULTRASPEED_ACCEPTANCE")
      ->default_str("keyed");
}

}  // namespace ultraspeed::apps
