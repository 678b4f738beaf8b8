// The engine over an executor and its programs; Engine::open and the tests make one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/block_index.h"
#include "engine/engine.h"
#include "engine/kv_pages.h"
#include "engine/lap_clock.h"
#include "engine/prefix_cache.h"
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
  static constexpr uint32_t kPlainDecode = 2;

  // Loads the executor. REQUIRES: verified programs, decode, prefill and perhaps one that decodes
  // without drafting, that share weights and caches; settings chosen for them.
  static Result<std::unique_ptr<ProgramEngine>> make(std::vector<program::Program> programs,
                                                     std::unique_ptr<program::Executor> executor,
                                                     const EngineSettings& settings,
                                                     const program::WeightReader& read_weight);

  Result<SessionId> start(std::span<const int32_t> prompt, const GenerationParams& params) override;
  Result<SessionId> fork(SessionId session, uint64_t seed) override;
  Status step(std::vector<StepEvent>* events) override;
  void cancel(SessionId session) override;
  bool idle() const override { return scheduler_.idle() && preempted_.empty(); }
  Result<std::vector<float>> score(std::span<const int32_t> tokens,
                                   const std::function<void(uint32_t)>& progress) override;
  Status features(std::span<const int32_t> tokens, const ResidualSink& sink) override;
  DecodeTimes decode_times() const override { return decode_times_; }
  KvUsage kv_usage() const override {
    return {kv_pages_.num_pages(), kv_pages_.num_pages() - kv_pages_.num_available(),
            programs_.front().kv_page_positions, kv_pages_.num_reclaimable(), num_preemptions_};
  }
  void observe_caches(CacheObserver* observer) override;
  uint32_t max_context() const override { return settings_.max_context; }
  std::string_view device() const override { return settings_.device; }
  const std::vector<program::Program>& programs() const override { return programs_; }

  const KvPagePool& kv_pages() const { return kv_pages_; }
  uint32_t num_slots() const { return static_cast<uint32_t>(sessions_.size()); }
  HeldText held_in(uint32_t slot) const;  // by a session or a prefix; empty: by neither

 private:
  // One session's columns in the step at hand: columns_[begin] to [begin + count - 1].
  struct Share {
    uint32_t slot = 0;
    uint32_t count = 0;
    size_t begin = 0;
  };

  ProgramEngine(std::vector<program::Program> programs, std::unique_ptr<program::Executor> executor,
                const EngineSettings& settings);

  // Sessions and prefixes (admission.cc).
  Status check_fits(size_t prompt_size) const;
  Status check_may_enter() const;
  PrefixSearch search_prefix(const GenerationParams& params, std::span<const int32_t> tokens) const;
  bool grow(size_t num_positions, KvPageTable* pages, std::optional<uint32_t> kept = std::nullopt);
  Result<std::optional<PrefixSource>> reserve(std::optional<PrefixSource> source,
                                              size_t num_positions, KvPageTable* pages);
  uint32_t take_slot();
  Session& add_session(uint32_t slot, std::span<const int32_t> prompt,
                       const GenerationParams& params, KvPageTable pages);
  void mark(const PrefixSearch& search, Session* session) const;
  Status enter(SessionId id, std::optional<PrefixSource> source);
  Status look_again(uint32_t slot);
  std::optional<uint32_t> slot_of(SessionId session) const;
  size_t num_sessions() const;

  // Copies (fork.cc).
  const KvPageTable& page_table_of(uint32_t slot) const;
  Status copy_caches(const PrefixSource& source, uint32_t to_slot,
                     std::span<const uint32_t> to_pages);
  Status keep_prefix(uint32_t slot, uint32_t count);

  // Pages (preemption.cc).
  enum class Room { kNow, kLater, kNone };
  Room make_room(uint32_t slot, uint32_t count);
  std::optional<uint32_t> youngest_with_pages() const;
  uint32_t num_sessions_with_pages() const;
  void preempt(uint32_t slot);
  bool is_preempted(uint32_t slot) const {
    return std::ranges::find(preempted_, slot) != preempted_.end();
  }
  Status resume(std::vector<StepEvent>* events);

  // Steps.
  bool admit_or_end(uint32_t slot, uint32_t count, std::vector<StepEvent>* events);
  void end_without_token(uint32_t slot, FinishReason reason, std::vector<StepEvent>* events);
  StepEvent& add_event(const Session& session, std::vector<StepEvent>* events) const;
  Status gather_prompt(uint32_t slot, std::vector<StepEvent>* events);
  Status gather_blocks(std::span<const uint32_t> slots, LapClock* clock,
                       std::vector<StepEvent>* events);
  std::vector<Token> take_prompt_tokens(const Session& session, const Share& share, uint32_t first,
                                        uint32_t num_told);
  void deliver_prompt(const Share& share, std::vector<StepEvent>* events);
  void deliver_block(const Share& share, std::vector<StepEvent>* events);
  std::optional<FinishReason> take_token(Session& session, size_t column,
                                         std::vector<StepEvent>* events);
  void end_session(uint32_t slot);
  Status take_turn(std::vector<StepEvent>* events);
  Status decode(std::span<const uint32_t> slots, std::vector<StepEvent>* events);
  Status prefill(uint32_t slot, std::vector<StepEvent>* events);
  Status run(uint32_t program_index);
  uint32_t decode_program() const;
  // A text alone, its first `num_positions` tokens: each column filled in, each step's end told.
  using TextColumn = std::function<void(uint32_t position, program::Column*)>;
  using TextStep = std::function<Status(uint32_t begin, uint32_t end)>;
  Status run_text(std::span<const int32_t> tokens, uint32_t num_positions, const TextColumn& fill,
                  const TextStep& step_done);
  Status check_output() const;
  Status check_accepted(const Share& share) const;
  Status check_proposed(const Share& share) const;
  Status fail(Error error);
  void tell_observer();

  std::vector<program::Program> programs_;
  std::unique_ptr<program::Executor> executor_;
  EngineSettings settings_;
  uint32_t page_positions_;  // 0: no paged cache
  uint32_t num_mtp_heads_;
  PrefixRules prefix_rules_;
  KvPagePool kv_pages_;  // outlives sessions and prefixes, which hold its pages
  RequestScheduler scheduler_;
  // [num_sequences], the slots; the index is the sequence. A slot is a session's, a prefix's, or
  // free.
  std::vector<std::optional<Session>> sessions_;
  PrefixCache prefixes_;
  CacheObserver* observer_ = nullptr;
  std::optional<BlockIndex> blocks_;  // of what the observer was told
  std::vector<uint32_t> preempted_;   // slots of sessions without pages, in order of arrival
  uint64_t num_preemptions_ = 0;
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
