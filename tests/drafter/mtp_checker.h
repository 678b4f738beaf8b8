// An executor that runs a target with its MTP heads and compares what they propose with what the
// dense head does.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "drafter/dense_mtp.h"
#include "program/executor.h"
#include "support/stage_executor.h"

namespace ultraspeed::test {

struct MtpCheckerOptions {
  uint32_t num_heads = 3;
  // The target is made to agree with another number of drafts in each block.
  bool forces = false;
  // Replaces what the dense heads are given, to see that the comparison notices.
  std::function<void(DenseMtp::Row*)> damage = {};
  uint32_t token_shift = 0;  // the dense heads get tokens so many positions too early
};

class MtpChecker final : public program::Executor {
 public:
  struct Counts {
    uint32_t num_proposals = 0;  // tokens
    uint32_t num_different = 0;  // of these, from the dense head's
    uint32_t num_blocks = 0;     // with drafts
    uint32_t num_accepted = 0;   // drafts
    uint32_t num_partial = 0;    // blocks of which a part was accepted
    double largest_error = 0;    // of a logit, relative to the row's largest
  };

  // `dense` and `counts` outlive the executor.
  MtpChecker(const MtpCheckerOptions& options, const GeneratorOptions& model, const DenseMtp& dense,
             Counts* counts);

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return inner_->load(std::move(programs), limits, read_weight);
  }
  Status run(uint32_t index, const program::StepInput& input, program::StepOutput* output) override;
  Status copy_cache(const program::CacheCopy& copy) override;

 private:
  using Rows = std::vector<DenseMtp::Row>;  // [position]

  // A sequence's columns [begin, end) and the last that is of its text.
  struct Block {
    size_t begin = 0, end = 0;
    size_t first_logits = 0;  // end: none
    size_t accepted = 0;
  };

  void after_stage(const std::string& stage, StageValues* values);
  void force(const Block& block);
  void check(Block block, const program::StepOutput& output);
  void compare(uint32_t head, const Block& block, const program::StepOutput& output,
               const DenseMtp::Vector& logits);
  int32_t proposal_of(uint32_t head, const Block& block, const DenseMtp::Vector& logits) const;
  std::vector<Block> blocks() const;
  std::vector<Rows>& history_of(const Block& block) {
    return history_[columns_[block.begin].sequence];
  }

  const MtpCheckerOptions options_;
  const GeneratorOptions& model_;
  const DenseMtp& dense_;
  Counts* counts_;
  std::unique_ptr<program::Executor> inner_;
  std::vector<program::Column> columns_;
  std::vector<float> residuals_;                   // [column, hidden_size], after the last layer
  std::vector<std::vector<float>> logits_;         // [head][column, vocab_size]
  std::map<uint32_t, std::vector<Rows>> history_;  // [sequence][head]: what its cache was made from
};

}  // namespace ultraspeed::test
