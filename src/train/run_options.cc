#include "train/run_options.h"

#include <algorithm>
#include <cmath>

#include "train/output_files.h"

namespace ultraspeed::train {

double schedule_factor(const RunOptions& options, uint64_t step) {
  const auto steps = static_cast<double>(std::max<uint64_t>(options.num_steps, 1));
  const double warmup_steps = std::floor(options.warmup * steps);
  const auto at = static_cast<double>(step);
  if (at < warmup_steps) return (at + 1) / (warmup_steps + 1);
  const double done = std::min(1.0, (at - warmup_steps) / std::max(1.0, steps - warmup_steps));
  if (options.schedule == Schedule::kLinear) return 1 - done;
  constexpr double kPi = 3.14159265358979323846;
  return 0.5 + 0.5 * std::cos(kPi * done);
}

void add_optimisation_flags(FlagList* flags, RunOptions* options) {
  flags->choice<torch::Dtype>("--compute", &options->compute,
                              {{"f32", torch::kFloat32}, {"bf16", torch::kBFloat16}},
                              "type of matrix products; masters are f32");
  flags->number("--seed", &options->seed, "of weights, and of what is drawn");
  flags->number("--steps", &options->num_steps, "of the whole run");
  flags->choice<MatrixOptimizer>(
      "--matrices", &options->matrix_optimizer,
      {{"muon", MatrixOptimizer::kMuon}, {"adamw", MatrixOptimizer::kAdamw}},
      "what optimises matrices of layers; AdamW all else");
  flags->number("--lr", &options->learning_rate, "AdamW's");
  flags->number("--muon-lr", &options->muon_learning_rate, "Muon's");
  flags->number("--muon-decay", &options->muon_weight_decay, "Muon's weight decay");
  flags->choice<MuonScale>(
      "--muon-scale", &options->muon_scale,
      {{"adamw", MuonScale::kMatchRmsAdamw}, {"original", MuonScale::kOriginal}}, "of updates");
  flags->number("--warmup", &options->warmup, "share of steps with a growing rate");
  flags->choice<Schedule>("--schedule", &options->schedule,
                          {{"cosine", Schedule::kCosine}, {"linear", Schedule::kLinear}},
                          "of the rate, to zero");
  flags->number("--clip", &options->clip_norm, "largest norm of a step's gradient");
}

void add_machine_flags(FlagList* flags, RunOptions* options, bool* is_cuda) {
  flags->choice<bool>("--device", is_cuda, {{"cpu", false}, {"cuda", true}}, "to train on");
  flags->number("--minutes", &options->minutes, "after which this process stops; 0: none");
  flags->number("--log-every", &options->log_every, "steps");
  flags->number("--eval-every", &options->eval_every, "steps");
  flags->number("--checkpoint-every", &options->checkpoint_every, "steps");
}

Status check_run_options(const RunOptions& options) {
  if (options.num_steps == 0 || options.log_every == 0 || options.eval_every == 0 ||
      options.checkpoint_every == 0) {
    return wrong_flag("--steps, --log-every, --eval-every and --checkpoint-every are at least 1");
  }
  if (!(options.learning_rate > 0) || !(options.muon_learning_rate > 0) ||
      !(options.clip_norm > 0)) {
    return wrong_flag("--lr, --muon-lr and --clip are above 0");
  }
  if (options.warmup < 0 || options.warmup > 1) return wrong_flag("--warmup lies in [0, 1]");
  if (options.minutes < 0 || options.muon_weight_decay < 0) {
    return wrong_flag("--minutes and --muon-decay are not negative");
  }
  return {};
}

Status check_destinations(const RunOptions& options) {
  const auto named = [](const char* flag, const Status& status) -> Status {
    if (status) return {};
    return make_error(status.error().code, "{}: {}", flag, status.error().message);
  };
  US_TRY(named("--out", check_folder(options.output)));
  if (options.checkpoint.empty()) return {};
  return named("--checkpoint", check_file(options.checkpoint));
}

}  // namespace ultraspeed::train
