// The engine over an executor and its programs; Engine::open and the tests make one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_pages.h"
#include "engine/lap_clock.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "engine/settings.h"
#include "program/executor.h"
#include "program/program.h"

namespace ultraspeed::engine {

class ProgramEngine final : public Engine {
 public:
  static constexpr uint32_t kDecode = 0;  // index into programs()
  static constexpr uint32_t kPrefill = 1;

  // Loads the executor. REQUIRES: two verified programs, decode and prefill, that share weights and
  // caches; settings chosen for them.
  static Result<std::unique_ptr<ProgramEngine>> make(std::vector<program::Program> programs,
                                                     std::unique_ptr<program::Executor> executor,
                                                     const EngineSettings& settings,
                                                     const program::WeightReader& read_weight);

  Result<SessionId> start(std::span<const int32_t> prompt, const GenerationParams& params) override;
  Result<SessionId> fork(SessionId session, uint64_t seed) override;
  Status step(std::vector<StepEvent>* events) override;
  void cancel(SessionId session) override;
  bool idle() const override { return scheduler_.idle(); }
  Result<std::vector<float>> score(std::span<const int32_t> tokens,
                                   const std::function<void(uint32_t)>& progress) override;
  Status features(std::span<const int32_t> tokens, const ResidualSink& sink) override;
  DecodeTimes decode_times() const override { return decode_times_; }
  KvUsage kv_usage() const override {
    return {kv_pages_.num_pages(), kv_pages_.num_pages() - kv_pages_.num_free(),
            programs_.front().kv_page_positions};
  }
  uint32_t max_context() const override { return settings_.max_context; }
  std::string_view device() const override { return settings_.device; }
  const std::vector<program::Program>& programs() const override { return programs_; }

  const KvPagePool& kv_pages() const { return kv_pages_; }

 private:
  // One session's columns in the step at hand: columns_[begin] to [begin + count - 1].
  struct Share {
    uint32_t slot = 0;
    uint32_t count = 0;
    size_t begin = 0;
  };

  ProgramEngine(std::vector<program::Program> programs, std::unique_ptr<program::Executor> executor,
                const EngineSettings& settings);

  Result<uint32_t> find_free_slot() const;
  std::optional<uint32_t> slot_of(SessionId session) const;
  Status reserve_prompt(size_t prompt_size, KvPageTable* pages) const;
  Session& add_session(uint32_t slot, std::span<const int32_t> prompt,
                       const GenerationParams& params, KvPageTable pages);
  Status copy_caches(uint32_t from_slot, uint32_t to_slot, uint32_t num_positions);
  bool admit_or_end(uint32_t slot, uint32_t count, std::vector<StepEvent>* events);
  void gather_prompt(uint32_t slot, std::vector<StepEvent>* events);
  void gather_blocks(std::span<const uint32_t> slots, LapClock* clock,
                     std::vector<StepEvent>* events);
  void deliver_prompt(const Share& share, std::vector<StepEvent>* events);
  void deliver_block(const Share& share, std::vector<StepEvent>* events);
  std::optional<FinishReason> take_token(Session& session, size_t column,
                                         std::vector<StepEvent>* events);
  void end_session(uint32_t slot);
  Status decode(std::span<const uint32_t> slots, std::vector<StepEvent>* events);
  Status prefill(uint32_t slot, std::vector<StepEvent>* events);
  Status run(uint32_t program_index);
  // A text alone, its first `num_positions` tokens: each column filled in, each step's end told.
  using TextColumn = std::function<void(uint32_t position, program::Column*)>;
  using TextStep = std::function<Status(uint32_t begin, uint32_t end)>;
  Status run_text(std::span<const int32_t> tokens, uint32_t num_positions, const TextColumn& fill,
                  const TextStep& step_done);
  Status check_output() const;
  Status check_accepted(const Share& share) const;
  Status check_proposed(const Share& share) const;
  Status fail(Error error);

  std::vector<program::Program> programs_;
  std::unique_ptr<program::Executor> executor_;
  EngineSettings settings_;
  uint32_t page_positions_;  // 0: no paged cache
  uint32_t ring_slack_;
  uint32_t num_mtp_heads_;
  KvPagePool kv_pages_;  // outlives the sessions, which hold its pages
  RequestScheduler scheduler_;
  std::vector<std::optional<Session>> sessions_;  // [num_sequences]; the index is the sequence
  SessionId next_id_ = 1;
  DecodeTimes decode_times_;
  std::optional<Error> failure_;  // set for good when the executor cannot go on

  // The step at hand.
  std::vector<program::Column> columns_;
  std::vector<Share> shares_;
  std::vector<std::span<const uint32_t>> page_tables_;  // [num_sequences]
  program::StepOutput output_;
};

}  // namespace ultraspeed::engine
