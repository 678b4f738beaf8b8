// The training of a drafter: texts and their features in, a drafter's folder out. A run is a
// function of its options and its inputs, whatever it was stopped and continued in between.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "train/acceptance.h"
#include "train/drafter_net.h"
#include "train/feature_shard.h"
#include "train/frozen_tables.h"
#include "train/optimizers.h"
#include "train/run_loop.h"
#include "train/trainer_options.h"
#include "train/training_batch.h"

namespace ultraspeed::train {

struct StepReport {
  double loss = 0;
  double block_length = 0;   // tokens that the step's blocks would have given, on average
  double gradient_norm = 0;  // before clipping
  int64_t num_blocks = 0;
  int64_t num_tokens = 0;
};

struct Evaluation {
  Acceptance acceptance;
  // Of a drafter with selector: what its likeliest tokens would have given, and the best choices
  // among its candidates.
  Acceptance likeliest, possible;
  double loss = 0;
};

class Trainer {
 public:
  // Opens shards and tables, makes the net, and goes on from the checkpoint if it exists.
  static Result<std::unique_ptr<Trainer>> open(const TrainerOptions& options, Log log);

  // Trains until the last step or the time limit, writing checkpoints, and exports the drafter.
  // True: the run is complete.
  Result<bool> run();

  // One step. REQUIRES: not all are done.
  Result<StepReport> step();
  // REQUIRES: options.eval_features.
  Result<Evaluation> evaluate();
  Status save() const;

  uint64_t num_steps_done() const { return run_.num_steps_done(); }
  const DrafterNet& net() const { return *net_; }

 private:
  explicit Trainer(const TrainerOptions& options, Log log)
      : options_(options), log_(std::move(log)) {}

  Status load();
  Status check_inputs(const FrozenTables& tables) const;
  Status make_net(const FrozenTables& tables);
  void begin_selector();
  void make_optimizers();
  Result<StepReport> step_unguarded();
  Result<Evaluation> evaluate_unguarded();
  Status evaluate_text(size_t text, LossOutput* sums, Evaluation* result) const;
  LossInput loss_input(const torch::Tensor& rows, const TrainingBatch& batch) const;
  Result<PackedBatch> read_pass(uint64_t pass, const std::vector<uint32_t>& texts) const;
  void prefetch(uint64_t pass);
  Result<PackedBatch> take_pass(uint64_t pass);
  void learn(const PackedBatch& packed, LossOutput* sums, StepReport* report);
  void set_rounding();
  Status log_evaluation();

  TrainerOptions options_;
  Log log_;
  std::optional<FeatureFolder> folder_, eval_folder_;
  std::unique_ptr<DrafterNet> net_;
  std::unique_ptr<Optimizers> optimizers_;
  std::optional<Selector> selector_;
  std::optional<SequenceOrder> order_;
  torch::Tensor embedding_;  // [vocab_size, hidden_size], in the net's master type
  torch::Tensor head_;       // [vocab_size, hidden_size], in its compute type
  RunState run_;
  // The next passes, in order: read on threads of their own while one is computed.
  std::deque<std::pair<uint64_t, std::future<Result<PackedBatch>>>> ahead_;
};

}  // namespace ultraspeed::train
