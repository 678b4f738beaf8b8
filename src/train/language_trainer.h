// Training of a language model: token files in, a checkpoint folder out. A run is a function of its
// options and its inputs, whatever it was stopped and continued in between.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "train/language_net.h"
#include "train/language_options.h"
#include "train/optimizers.h"
#include "train/run_loop.h"
#include "train/training_batch.h"

namespace ultraspeed::train {

struct LanguageReport {
  double loss = 0;           // a token's
  double gradient_norm = 0;  // before clipping
  double largest_load = 0;   // tokens of a layer's busiest expert / the mean, of the worst layer
  int64_t num_tokens = 0;
};

struct LanguageEvaluation {
  double nll = 0;  // a token's
  // Of a run with a teacher, with p the teacher's distribution and q the net's:
  double teacher_nll = 0;
  double kl = 0;         // KL(p || q)
  double agreement = 0;  // how often both have the same likeliest token
  int64_t num_tokens = 0;
};

class LanguageTrainer {
 public:
  // Opens token files and teacher, makes the net, and goes on from the checkpoint if it exists.
  static Result<std::unique_ptr<LanguageTrainer>> open(const LanguageOptions& options, Log log);

  // Trains until the last step or the time limit, writing checkpoints, and exports the model.
  // True: the run is complete.
  Result<bool> run();

  // One step. REQUIRES: not all are done.
  Result<LanguageReport> step();
  // In f32 whatever the run computes in: products rounded to BF16 would add a divergence of their
  // own. REQUIRES: options.eval_tokens.
  Result<LanguageEvaluation> evaluate();
  Status save() const;

  uint64_t num_steps_done() const { return run_.num_steps_done(); }
  const LanguageNet& net() const { return *net_; }

 private:
  // The sequences of a token file, on the device.
  struct Sequences {
    torch::Tensor ids;  // i32 [tokens]
    uint32_t length = 0;
    size_t count() const;
    // i64 [sequences, length + 1]: each token and the next one.
    torch::Tensor take(const std::vector<int64_t>& numbers) const;
  };

  explicit LanguageTrainer(const LanguageOptions& options, Log log)
      : options_(options), log_(std::move(log)) {}

  Status load();
  Result<Sequences> read_tokens(const std::string& path);
  Status find_teacher();
  Status make_nets();
  Status check_rounding() const;
  Result<LanguageReport> step_unguarded();
  Result<LanguageEvaluation> evaluate_unguarded();
  double learn(const torch::Tensor& ids, std::vector<torch::Tensor>* loads);
  void set_compute(torch::Dtype compute);
  void evaluate_pass(const torch::Tensor& ids, LanguageEvaluation* sums) const;
  Status log_evaluation();
  std::string describe() const;

  LanguageOptions options_;
  Log log_;
  Sequences sequences_, eval_sequences_;
  std::unique_ptr<LanguageNet> net_, teacher_;
  std::string teacher_text_;  // of the run's description
  std::unique_ptr<Optimizers> optimizers_;
  std::optional<SequenceOrder> order_;
  RunState run_;
};

}  // namespace ultraspeed::train
