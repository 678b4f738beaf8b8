// For the engine's tests: an executor whose caches hold token ids instead of keys and values, so
// that it can check at every step that page tables, rings and positions show each sequence exactly
// its own tokens. What it chooses is a hash of what it sees there. A decode program that drafts
// proposes what will be chosen, or in one case of three another token; so do MTP heads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "program/executor.h"
#include "program/program.h"
#include "program/step.h"

namespace ultraspeed::engine {

class FakeExecutor final : public program::Executor {
 public:
  static constexpr uint32_t kVocabSize = 97;
  static constexpr uint32_t kWindow = 16;
  static constexpr uint32_t kRingPositions = 32;

  // Decode and prefill programs with a paged and a ring cache; page_positions 0: the ring alone.
  static std::vector<program::Program> make_programs(uint32_t decode_width, uint32_t prefill_width,
                                                     uint32_t page_positions,
                                                     bool is_drafting = false,
                                                     uint32_t num_mtp_heads = 0);

  // The token after `tokens`, and its log-probability.
  static int32_t choose(std::span<const int32_t> tokens, const program::ColumnSampling& sampling);
  static float logprob(std::span<const int32_t> tokens, int32_t next_token_id);

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override;
  Status run(uint32_t index, const program::StepInput& input, program::StepOutput* output) override;
  Status copy_cache(const program::CacheCopy& copy) override;
  void copy_ring(const program::CacheCopy& copy);
  Status read_buffer(uint32_t index, program::BufferId id, std::span<float> out) override;

  // What every number of a buffer is after so many steps.
  static float residual(program::BufferId id, size_t num_steps) {
    return static_cast<float>(100 * num_steps + id);
  }

  // One step as it was asked for.
  struct Record {
    uint32_t program = 0;
    // With the tokens drafted; without adjustments, which do not outlive the step.
    std::vector<program::Column> columns;
  };
  std::vector<Record> steps;
  uint32_t num_page_copies = 0;
  std::optional<Error> next_error;        // the next run returns it
  std::optional<int32_t> next_token_id;   // the next run chooses it, whatever it is
  std::optional<uint32_t> next_accepted;  // the next run accepts so many drafts
  double draft_s = 0;                     // of every run
  bool drops_a_column = false;            // the next run returns one column less
  bool drops_drawn_logits = false;        // runs return no logits of what MTP heads drew
  bool misreports_a_draft = false;        // the next run returns other drafted ids than it used
  std::optional<std::vector<int32_t>> next_proposed;  // the next run's MTP heads propose these

 private:
  void check_columns(uint32_t index, const program::StepInput& input);
  void draft(std::vector<program::Column>* columns);
  void propose(uint32_t num_heads, std::span<const program::Column> columns,
               program::StepOutput* output);
  void write(const program::Column& column, std::span<const uint32_t> pages);
  void check_caches(const program::Column& column, std::span<const uint32_t> pages);
  program::ColumnOutput choose_token(const program::Column& column);

  std::vector<program::Program> programs_;
  program::CacheLimits limits_;
  std::vector<int32_t> pages_;                   // [num_kv_pages, kv_page_positions]
  std::vector<int32_t> rings_;                   // [num_sequences, kRingPositions]
  std::vector<std::vector<int32_t>> sequences_;  // [num_sequences]: tokens since position 0
};

}  // namespace ultraspeed::engine
