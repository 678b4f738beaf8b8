// Runs a checkpoint's program without the engine: one sequence (or steps of several), chosen
// tokens, raw logits, on any executor. For tests that compare executors and goldens, and that
// damage weights on purpose.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "program/executor.h"

namespace ultraspeed::test {

struct RunnerOptions {
  uint32_t num_workers = 2;
  uint32_t num_ranks = 1;
  plan::AllReduce all_reduce = plan::AllReduce::kTwoShot;
  plan::LogitsPlace logits = plan::LogitsPlace::kRankZero;
  uint32_t width = 8;  // columns of a step
  uint32_t max_context = 1024;
  uint32_t num_sequences = 1;
  std::string drafter;   // its folder; "": none
  bool has_mtp = false;  // the checkpoint's MTP layers propose
  // Called with the drafter's configuration before planning.
  std::function<void(model::DrafterConfig*)> change_drafter;
  // nullptr: the threaded CPU executor.
  std::function<std::unique_ptr<program::Executor>()> make_executor;
  // Called with every packed matrix after loading, on several threads.
  std::function<void(const model::WeightSource&, std::span<std::byte>)> damage;
  // Called with the planned program before it is loaded.
  std::function<void(program::Program*)> change_program;
  bool verify = true;  // false: run a program that verify() would reject
};

// Raw logits after one token: the `count` largest, descending.
struct TopLogits {
  std::vector<int32_t> ids;
  std::vector<float> logits;
};

class ModelRunner {
 public:
  static Result<ModelRunner> open(const std::string& directory, const RunnerOptions& options);

  // Appends tokens to the sequence, `width` at a time; the logits after each of the last
  // `num_wanted` of them.
  Result<std::vector<TopLogits>> feed(std::span<const int32_t> tokens, size_t num_wanted,
                                      uint32_t count);

  // One step of these columns, wherever they are; the sequence's length stays.
  Result<program::StepOutput> step(const std::vector<program::Column>& columns);

  // The columns of a draft block that starts with this token at the sequence's end, all with
  // logits.
  std::vector<program::Column> draft_block(int32_t anchor, uint32_t num_rows) const;

  uint32_t length() const { return position_; }
  void set_length(uint32_t length) { position_ = length; }

  // Forgets the sequence.
  void reset() { set_length(0); }

  const program::Program& program() const { return program_; }
  const model::ModelConfig& config() const { return config_; }

 private:
  model::ModelConfig config_;
  program::Program program_;
  std::unique_ptr<program::Executor> executor_;
  std::vector<std::vector<uint32_t>> pages_;  // [num_sequences]
  uint32_t position_ = 0;
};

// Logits after each token of prompt + continuation[0 .. n - 2], from the prompt's last on: those
// that chose continuation[i]. Resets the runner.
Result<std::vector<TopLogits>> teacher_forced(ModelRunner* runner, std::span<const int32_t> prompt,
                                              std::span<const int32_t> continuation,
                                              uint32_t count);

}  // namespace ultraspeed::test
