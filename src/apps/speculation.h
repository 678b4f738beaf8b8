// The drafter of a model: chosen by --drafter or by what the model's folder holds, and opened.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "apps/drafter_option.h"
#include "apps/executor_choice.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/speculation.h"
#include "model/drafter.h"

namespace ultraspeed::apps {

// Columns of a decode step that a user may ask for.
inline constexpr uint32_t kMinDecodeWidth = 8, kMaxDecodeWidth = 64;

class Speculation {
 public:
  // Reads headers, no weights. `num_mtp_layers` is the model's. Errors: kNotFound for a folder that
  // is missing or lacks config.json and for a model without MTP layers that should draft with them,
  // what model::Drafter::open reports, kInvalidArgument for a block that the drafter does not have.
  static Result<Speculation> open(const SpeculationOptions& options,
                                  const std::string& model_directory, uint32_t num_mtp_layers);

  const engine::DrafterOptions& drafter() const { return choice_.options; }
  uint32_t block() const { return block_; }

  // The block where nobody asked for one: of suffix lookup on a processor in f32 half as long, for
  // columns cost too much there (docs/performance.md, "Suffix lookup"); else block().
  uint32_t block_on(std::string_view device, const ArithmeticModes& modes) const;

  // Errors: kInvalidArgument for fewer columns of a decode step than a block has.
  Status check_decode_width(uint32_t asked) const;
  // Columns of the decode steps that so many sessions share, where nobody asked for a number. On a
  // processor so many that each has room for its newest token and seven drafts where the drafter
  // drafts, a multiple of 8 within the bounds above; on a GPU, where columns cost time also when
  // nobody has them, the fewest. A whole block in any case.
  uint32_t decode_width_on(std::string_view device, uint32_t max_sessions) const;

  // The drafter with weights of its own, or nullptr.
  const model::Drafter* dflash() const { return dflash_ ? &*dflash_ : nullptr; }

  // The same with a changed DFlash drafter. REQUIRES: dflash() is not nullptr.
  Result<Speculation> with(const model::Drafter::Change& change) const;

  // What drafts for a session with these parameters, as --drafter would say it.
  std::string session_drafter(const engine::SamplingParams& sampling) const;

  // A sentence for whoever expects the chosen drafter; "" where it drafts.
  std::string describe_stand_in(const engine::SamplingParams& sampling) const;

  // A sentence for a DFlash drafter that was of no use over a fair number of cycles, else "".
  std::string describe_low_acceptance(const engine::SamplingParams& sampling,
                                      const engine::SpeculationStats& stats) const;

 private:
  Speculation() = default;
  Status choose_block(uint32_t block, uint32_t num_mtp_layers);

  DrafterChoice choice_;
  std::string folder_;  // of dflash_
  std::optional<model::Drafter> dflash_;
  uint32_t block_ = 0;
  bool is_block_asked_ = false;
};

}  // namespace ultraspeed::apps
