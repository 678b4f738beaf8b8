#include "apps/speculation.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "apps/model_argument.h"
#include "base/check.h"
#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

namespace fs = std::filesystem;
using engine::DrafterKind;

constexpr uint32_t kDefaultBlock = 8, kExactSuffixBlock = 4;
constexpr uint32_t kColumnsOfSession = 8;  // at most, of a width that nobody asked for

// Below this length drafting costs more than it saves; a few cycles may be bad luck.
constexpr double kLowAcceptedLength = 1.2;
constexpr uint64_t kFairNumberOfCycles = 16;

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

Result<model::Drafter> open_folder(const std::string& folder, const std::string& flag) {
  std::error_code error;
  if (!is_folder(folder)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no folder {}; expected one with a DFlash drafter: config.json and "
                      "*.safetensors",
                      flag, folder);
  }
  if (!fs::is_regular_file(folder + "/config.json", error)) {
    return make_error(ErrorCode::kNotFound, "{}: no config.json in {}, expected that of a drafter",
                      flag, folder);
  }
  return model::Drafter::open(folder);
}

}  // namespace

Result<Speculation> Speculation::open(const SpeculationOptions& options,
                                      const std::string& model_directory, uint32_t num_mtp_layers) {
  Speculation speculation;
  const std::string own_folder = model_directory + "/dflash";
  DrafterChoice& choice = speculation.choice_;
  if (options.drafter) {
    choice = *options.drafter;
  } else if (is_folder(own_folder)) {
    choice.options.kind = DrafterKind::kDflash;
  }
  if (choice.options.kind == DrafterKind::kDflash) {
    const std::string flag = fmt::format("--drafter {}", drafter_name(choice));
    speculation.folder_ = own_folder;
    if (!choice.folder.empty()) {
      auto folder = find_folder(choice.folder);
      if (!folder) {
        return make_error(folder.error().code, "--drafter {}", folder.error().message);
      }
      speculation.folder_ = *std::move(folder);
    }
    auto opened = open_folder(speculation.folder_, flag);
    if (!opened && !options.drafter) {
      return make_error(opened.error().code, "{} (--drafter suffix goes without it)",
                        opened.error().message);
    }
    US_ASSIGN(speculation.dflash_, std::move(opened));
  }
  if (choice.options.kind == DrafterKind::kMtp && num_mtp_layers == 0) {
    return make_error(ErrorCode::kNotFound,
                      "--drafter mtp: {} has no MTP layers (tensors model.mtp.layers.K.*); "
                      "--drafter suffix needs none",
                      model_directory);
  }
  US_TRY(speculation.choose_block(options.block, num_mtp_layers));
  return speculation;
}

Result<Speculation> Speculation::with(const model::Drafter::Change& change) const {
  US_CHECK(dflash_.has_value(), "{} has no weights", drafter_name(choice_));
  Speculation changed;
  changed.choice_ = choice_;
  changed.folder_ = folder_;
  changed.block_ = block_;
  changed.is_block_asked_ = is_block_asked_;
  US_ASSIGN(changed.dflash_, model::Drafter::open(folder_, change));
  return changed;
}

Status Speculation::choose_block(uint32_t block, uint32_t num_mtp_layers) {
  const bool is_mtp = choice_.options.kind == DrafterKind::kMtp;
  uint32_t own_block = is_mtp ? num_mtp_layers + 1 : kDefaultBlock;
  if (dflash_) own_block = dflash_->config().block_size;
  block_ = block == 0 ? std::min(own_block, plan::kMaxWidth) : block;
  is_block_asked_ = block != 0;
  if (dflash_ && block_ > own_block) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--block {}: {} drafts blocks of at most {} tokens", block_,
                      dflash_->config().file, own_block);
  }
  if (is_mtp && block_ > own_block) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--block {}: {} MTP layers draft blocks of at most {} tokens", block_,
                      num_mtp_layers, own_block);
  }
  const engine::DrafterOptions& options = choice_.options;
  if (options.kind != DrafterKind::kReplay || options.tokens_per_cycle <= block_) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--drafter {}: more than the block of {} tokens (see --block)",
                    drafter_name(choice_), block_);
}

uint32_t Speculation::block_on(std::string_view device, const ArithmeticModes& modes) const {
  const bool is_exact = device == kProcessor && modes.activations == program::Activations::kF32;
  const bool is_shorter =
      choice_.options.kind == DrafterKind::kSuffix && !is_block_asked_ && is_exact;
  return is_shorter ? kExactSuffixBlock : block_;
}

Status Speculation::check_decode_width(uint32_t asked) const {
  if (asked == 0 || asked >= block_) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--decode-width {}: fewer than the {} columns of a block (see --block)", asked,
                    block_);
}

uint32_t Speculation::decode_width_on(std::string_view device, uint32_t max_sessions) const {
  const bool is_drafting = choice_.options.kind != DrafterKind::kNone;
  const uint64_t share = is_drafting ? std::min(block_, kColumnsOfSession) : 1;
  const uint64_t sessions = device == kProcessor ? max_sessions : 1;
  const uint64_t wanted = std::min<uint64_t>(sessions * share, kMaxDecodeWidth);
  const auto rounded = static_cast<uint32_t>((wanted + 7) / 8 * 8);
  return std::max({rounded, kMinDecodeWidth, block_});
}

std::string Speculation::session_drafter(const engine::SamplingParams& sampling) const {
  const DrafterKind kind = engine::session_drafter(choice_.options.kind, sampling);
  if (kind == choice_.options.kind) return drafter_name(choice_);
  return drafter_name({.options = {.kind = kind}, .folder = {}});
}

std::string Speculation::describe_stand_in(const engine::SamplingParams& sampling) const {
  const std::string drafter = session_drafter(sampling);
  if (drafter == drafter_name(choice_)) return "";
  return fmt::format(
      "drafting with {}: repetition, presence and frequency penalties and constraints depend on "
      "every draft, and those of {} are known after the step alone",
      drafter, drafter_name(choice_));
}

std::string Speculation::describe_low_acceptance(const engine::SamplingParams& sampling,
                                                 const engine::SpeculationStats& stats) const {
  const bool has_drafted =
      engine::session_drafter(choice_.options.kind, sampling) == DrafterKind::kDflash;
  if (!has_drafted || block_ == 1 || stats.num_cycles() < kFairNumberOfCycles ||
      stats.accepted_length() >= kLowAcceptedLength) {
    return "";
  }
  return fmt::format(
      "drafter {}: accepted length {:.2f} over {} cycles, too little to gain time; 'ultraspeed "
      "doctor' looks for the reason",
      drafter_name(choice_), stats.accepted_length(), stats.num_cycles());
}

}  // namespace ultraspeed::apps
