// Muon for the matrices of a net and AdamW for the rest, as one.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/muon.h"
#include "train/net_parameters.h"
#include "train/run_options.h"

namespace ultraspeed::train {

class Optimizers {
 public:
  // `parameters` are updated in place.
  Optimizers(const std::vector<Parameter>& parameters, const RunOptions& options);

  // All gradients to zero, which others then add to.
  void begin_step();
  // One update with the gradients / divisor, their norm at most options.clip_norm, in the step
  // after `step` others. The norm before. Errors: kInternal for gradients that are not finite,
  // which change nothing.
  Result<double> update(double divisor, uint64_t step);

  // Parameters and moments: with num_updates what a checkpoint keeps.
  std::vector<NamedTensor> state();
  uint64_t num_updates() const { return static_cast<uint64_t>(adamw_->num_steps()); }
  void set_num_updates(uint64_t count) { adamw_->set_num_steps(static_cast<int64_t>(count)); }

 private:
  std::vector<Parameter> parameters_;
  RunOptions options_;
  std::unique_ptr<Muon> muon_;
  std::unique_ptr<Adamw> adamw_;
};

}  // namespace ultraspeed::train
