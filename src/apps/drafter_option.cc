#include "apps/drafter_option.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <filesystem>
#include <utility>

#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

using engine::DrafterKind;

constexpr std::string_view kReplayPrefix = "replay:";
constexpr std::array<std::pair<std::string_view, DrafterKind>, 5> kNamed = {
    {{"none", DrafterKind::kNone},
     {"suffix", DrafterKind::kSuffix},
     {"random", DrafterKind::kRandom},
     {"dflash", DrafterKind::kDflash},
     {"mtp", DrafterKind::kMtp}}};

bool may_be_folder(std::string_view text) {
  std::error_code error;
  return text.find('/') != std::string_view::npos || std::filesystem::is_directory(text, error);
}

}  // namespace

Result<DrafterChoice> parse_drafter(std::string_view text) {
  for (const auto& [name, kind] : kNamed) {
    if (text == name) return DrafterChoice{.options = {.kind = kind}, .folder = {}};
  }
  if (text.starts_with(kReplayPrefix)) {
    const std::string_view number = text.substr(kReplayPrefix.size());
    engine::DrafterOptions drafter{.kind = DrafterKind::kReplay};
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), drafter.tokens_per_cycle);
    const bool is_number = error == std::errc() && end == number.data() + number.size();
    if (is_number && drafter.tokens_per_cycle >= 1) return DrafterChoice{drafter, {}};
  }
  if (may_be_folder(text)) {
    return DrafterChoice{.options = {.kind = DrafterKind::kDflash}, .folder = std::string(text)};
  }
  return make_error(
      ErrorCode::kInvalidArgument,
      "'{}' is no drafter; expected none, suffix, random, replay:N with N from 1 to "
      "the block, mtp (the model's own MTP layers), dflash (the folder dflash/ of the model), the "
      "folder of a DFlash drafter, or its ORG/NAME in the Hugging Face cache",
      text);
}

std::string drafter_name(const DrafterChoice& choice) {
  if (!choice.folder.empty()) return choice.folder;
  for (const auto& [name, kind] : kNamed) {
    if (choice.options.kind == kind) return std::string(name);
  }
  return fmt::format("{}{}", kReplayPrefix, choice.options.tokens_per_cycle);
}

Status check_needs_no_output(const SpeculationOptions& options) {
  if (!options.drafter || options.drafter->options.kind != DrafterKind::kReplay) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--drafter {}: only run and bench decode learn an output to replay; expected "
                    "none, suffix, random, mtp, dflash or a folder",
                    drafter_name(*options.drafter));
}

void add_speculation_options(CLI::App& command, SpeculationOptions* options) {
  CLI::App& app = *command.add_option_group(
      "Speculation", "Several tokens a step; the text is the same with any of these");
  const auto take = [options](const std::string& text) { options->drafter = *parse_drafter(text); };
  app.add_option_function<std::string>(
         "--drafter", take,
         "What proposes tokens: none, suffix (what followed before), mtp (the model's own MTP "
         "layers), dflash (the network in the model's folder dflash/), a folder with such a "
         "network "
         "or its ORG/NAME in the Hugging Face cache, or for measurements random ids or replay:N (N "
         "tokens a step; run generates "
         "once before to learn them)")
      ->check(error_of<parse_drafter>)
      ->envname("ULTRASPEED_DRAFTER")
      ->default_str(options->drafter ? drafter_name(*options->drafter)
                                     : "dflash where the model has one, else suffix");
  app.add_option(
         "--block", options->block,
         "Tokens of a session that a step verifies: its newest and the proposed (default: "
         "those that a dflash drafter was trained on, one more than mtp has layers, else 8)")
      ->check(CLI::Range(1U, plan::kMaxWidth))
      ->envname("ULTRASPEED_BLOCK");
}

Result<engine::Acceptance> parse_acceptance(std::string_view text) {
  if (text == "keyed") return engine::Acceptance::kKeyed;
  if (text == "rejection") return engine::Acceptance::kRejection;
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is no acceptance; expected keyed or rejection", text);
}

std::string_view acceptance_name(engine::Acceptance acceptance) {
  return acceptance == engine::Acceptance::kKeyed ? "keyed" : "rejection";
}

void add_acceptance_option(CLI::App& command, SpeculationOptions* options) {
  const auto take = [options](const std::string& text) {
    options->acceptance = *parse_acceptance(text);
  };
  command
      .add_option_function<std::string>(
          "--acceptance", take,
          "How drafts are accepted above temperature 0: keyed (the text does not depend on the "
          "drafter) or rejection (only its distribution does not; dflash and mtp draw their drafts "
          "by chance instead of taking the likeliest)")
      ->check(error_of<parse_acceptance>)
      ->envname("ULTRASPEED_ACCEPTANCE")
      ->default_str("keyed");
}

}  // namespace ultraspeed::apps
