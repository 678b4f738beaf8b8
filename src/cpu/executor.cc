#include "cpu/executor.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "cpu/progress.h"
#include "cpu/sync.h"
#include "cpu/topology.h"

namespace ultraspeed::cpu {
namespace {

using Clock = std::chrono::steady_clock;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

class CpuExecutor final : public program::Executor {
 public:
  explicit CpuExecutor(const CpuOptions& options) : options_(options) {}

  ~CpuExecutor() override {
    stopping_.store(true);
    start_step();
    for (std::thread& thread : threads_) thread.join();
  }

  uint64_t weight_bytes(const program::Program& program) const override {
    return cpu::weight_bytes(program, activations());
  }

  bool keeps_logit_shares() const override { return true; }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    US_TRY(
        machine_.load(std::move(programs), limits, read_weight, activations(), options_.kv_cache));
    num_threads_ = static_cast<uint32_t>(machine_.programs()[0].lists.size());
    for (const program::Program& program : machine_.programs()) {
      US_CHECK(program.lists.size() == num_threads_);
      sync_.push_back(std::make_unique<SyncState>(program));
    }
    scratch_.resize(num_threads_);
    progress_.emplace(num_threads_);
    if (options_.pin_threads) US_TRY(choose_processors());
    for (uint32_t i = 1; i < num_threads_; ++i) {  // the caller of run() is thread 0
      threads_.emplace_back([this, i] { thread_main(i); });
      if (topology_) US_TRY(topology_->pin(threads_.back().native_handle(), processors_[i]));
    }
    return {};
  }

  Status read_buffer(uint32_t index, program::BufferId id, std::span<float> out) override {
    const program::BufferDecl& decl = machine_.programs()[index].buffers[id];
    US_CHECK(out.size_bytes() == decl.size_bytes, "{} bytes of {}", out.size_bytes(), decl.name);
    const std::span<const float> arena = machine_.rank(0).arena;
    std::ranges::copy(arena.subspan(decl.offset_bytes / sizeof(float), out.size()), out.begin());
    return {};
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    if (fault_) return fault_->error(*program_);
    US_TRY(machine_.check_step(index, input));
    output->columns.assign(input.columns.size(), {});
    program_ = &machine_.programs()[index];
    step_sync_ = sync_[index].get();
    step_sync_->begin_epoch();
    input_ = &input;
    output_ = output;
    error_ = {};
    begin_ = Clock::now();
    draft_end_ = begin_;
    heads_begin_.reset();
    if (options_.trace) begin_trace();
    progress_->begin_step();
    progress_->begin_thread(0);
    unfinished_.store(num_threads_ - 1, std::memory_order_relaxed);
    start_step();
    run_list(0);
    wait_for_threads();
    if (fault_) return fault_->error(*program_);
    const Clock::time_point end = Clock::now();
    const Clock::duration heads = heads_begin_ ? end - *heads_begin_ : Clock::duration();
    output->draft_s = std::chrono::duration<double>(draft_end_.load() - begin_ + heads).count();
    if (options_.trace) {
      trace_.end_ns = nanoseconds(end);
      options_.trace(*program_, trace_);
    }
    return error_;
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    if (fault_) return fault_->error(*program_);
    machine_.copy_cache(copy);
    return {};
  }

 private:
  StepActivations activations() const {
    const bool is_int8 = options_.int8_drafts && options_.activations == Activations::kF32;
    return {options_.activations, is_int8 ? Activations::kInt8 : options_.activations};
  }

  Status choose_processors() {
    US_ASSIGN(topology_, Topology::of_machine());
    US_ASSIGN(processors_, topology_->worker_processors(num_threads_));
    return {};
  }

  // For as long as the gap between two steps of a text takes: to sleep and be woken costs more.
  template <class Condition>
  static void spin_while(const Condition& condition) {
    constexpr uint32_t kSpins = 2048;
    for (uint32_t i = 0; i < kSpins && condition(); ++i) pause_briefly();
  }

  // Release: publishes the step's fields to the threads, which acquire step_ in thread_main().
  void start_step() {
    step_.fetch_add(1, std::memory_order_release);
    step_.notify_all();
  }

  // Acquire: pairs with each thread's release when it is done; the step's outputs are visible. Of
  // an aborted step, those that are stopped before a task are not waited for: they take no other.
  void wait_for_threads() {
    spin_while([this] { return unfinished_.load(std::memory_order_acquire) != 0; });
    for (uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
         left = unfinished_.load(std::memory_order_acquire)) {
      if (aborted_.load() && stopped_.load() == left) return;
      unfinished_.wait(left, std::memory_order_acquire);
    }
  }

  void thread_main(uint32_t thread) {
    progress_->begin_thread(thread);
    for (uint32_t seen = 0;;) {
      spin_while([&] { return step_.load(std::memory_order_acquire) == seen; });
      step_.wait(seen, std::memory_order_acquire);
      const uint32_t now = step_.load(std::memory_order_acquire);
      if (now == seen) continue;
      seen = now;
      if (stopping_.load()) return;
      run_list(thread);
      const bool is_last = unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1;
      if (is_last || aborted_.load()) unfinished_.notify_one();
    }
  }

  void run_list(uint32_t thread) {
    const uint32_t rank = thread / program_->num_workers;
    const auto& list = program_->lists[thread];
    scratch_[thread].begin_step();
    for (size_t index = 0; index < list.size(); ++index) {
      progress_->reach(thread, index);
      if (options_.before_task && !may_go_on(thread, rank, index)) return;
      if (!run_one(thread, rank, index, list[index])) return;
    }
    progress_->reach(thread, list.size());
  }

  bool may_go_on(uint32_t thread, uint32_t rank, size_t index) {
    stopped_.fetch_add(1);
    const bool goes_on = !aborted_.load() &&
                         options_.before_task(rank, thread - rank * program_->num_workers, index);
    stopped_.fetch_sub(1);
    return goes_on && !aborted_.load();
  }

  static uint64_t nanoseconds(Clock::time_point time) {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
  }

  void begin_trace() {
    trace_.begin_ns = nanoseconds(begin_);
    trace_.lists.resize(program_->lists.size());
    for (size_t i = 0; i < trace_.lists.size(); ++i) {
      trace_.lists[i].assign(program_->lists[i].size(), {});
    }
  }

  // False when the step was aborted.
  bool run_one(uint32_t thread, uint32_t rank, size_t index, const program::Task& task) {
    program::TaskTime* time = options_.trace ? &trace_.lists[thread][index] : nullptr;
    if (time != nullptr) time->wait_ns = nanoseconds(Clock::now());
    for (const program::Wait& wait : task.waits) {
      if (wait.kind != program::WaitKind::kCounter) continue;
      const auto met = [&] { return step_sync_->arrived(rank, wait) >= wait.need; };
      if (!wait_until(met, thread, index, wait)) return false;
    }
    if (time != nullptr) time->begin_ns = nanoseconds(Clock::now());
    const auto& operands = program_->stages[task.stage].operands;
    const auto* follow = std::get_if<program::FollowOperands>(&operands);
    if (follow != nullptr && follow->begins_heads()) heads_begin_ = Clock::now();
    const OpContext context(&machine_, *program_, rank, task, *input_, output_, &scratch_[thread]);
    const uint32_t units = unit_count(context);
    for (uint32_t unit = 0; unit < units; ++unit) {
      for (const program::Wait& wait : task.waits) {
        if (wait.kind != program::WaitKind::kSlot) continue;
        const auto met = [&] { return step_sync_->slot_ready(rank, wait, unit); };
        if (!wait_until(met, thread, index, wait)) return false;
      }
      if (time != nullptr && unit == 0) time->begin_ns = nanoseconds(Clock::now());
      if (Status status = run_task(context, unit); !status) record_error(std::move(status));
      step_sync_->signal_unit(rank, task.signal, task.row_begin + unit * task.part);
    }
    if (time != nullptr) time->end_ns = nanoseconds(Clock::now());
    step_sync_->signal(rank, task.signal);
    const auto* propose = std::get_if<program::ProposeOperands>(&operands);
    if (propose != nullptr && propose->ends_draft()) record_drafts();
    return true;
  }

  // The latest of the tasks that propose ends the draft part.
  void record_drafts() {
    const Clock::time_point now = Clock::now();
    Clock::time_point latest = draft_end_.load();
    while (latest < now && !draft_end_.compare_exchange_weak(latest, now)) {
    }
  }

  // Spins, then yields, until `met`. False when the step was aborted or nothing is to be hoped for.
  template <class Condition>
  bool wait_until(const Condition& met, uint32_t thread, size_t index, const program::Wait& wait) {
    constexpr uint32_t kSpins = 4096;
    for (uint32_t i = 0; i < kSpins; ++i) {
      if (met()) return true;
      pause_briefly();
    }
    Patience patience(*progress_, *program_, std::chrono::milliseconds(options_.wait_deadline_ms),
                      std::chrono::milliseconds(options_.silence_deadline_ms));
    while (!met()) {
      progress_->keep_waiting(thread);
      std::this_thread::yield();
      if (!aborted_.load(std::memory_order_relaxed) && !patience.is_over()) continue;
      record_fault({thread, index}, wait, patience.waited_ms());
      return false;
    }
    progress_->end_waiting(thread);
    return true;
  }

  // Every thread that is stuck comes here; the earliest stage is nearest to the cause. Whom all
  // wait for is seen by the first, while nobody has given up.
  void record_fault(const Progress::Position& waiter, const program::Wait& wait,
                    uint32_t waited_ms) {
    const std::lock_guard lock(report_mutex_);
    const auto culprit = fault_ ? fault_->culprit : progress_->first_at_work(*program_);
    aborted_.store(true);
    const auto stage = [&](const auto& at) { return program_->lists[at.thread][at.task].stage; };
    if (fault_ && stage(fault_->waiter) <= stage(waiter)) return;
    const bool is_counter = wait.kind == program::WaitKind::kCounter;
    const uint32_t rank = waiter.thread / program_->num_workers;
    fault_ = Fault{waiter, wait, is_counter ? step_sync_->arrived(rank, wait) : 0,
                   std::max(waited_ms, fault_ ? fault_->waited_ms : 0), culprit};
  }

  void record_error(Status status) {
    const std::lock_guard lock(report_mutex_);
    if (error_) error_ = std::move(status);
  }

  const CpuOptions options_;
  Machine machine_;
  std::vector<std::unique_ptr<SyncState>> sync_;  // [program]
  std::vector<Scratch> scratch_;                  // [thread]
  std::optional<Progress> progress_;
  std::vector<std::thread> threads_;
  uint32_t num_threads_ = 0;
  std::optional<Topology> topology_;  // where threads are pinned
  std::vector<uint32_t> processors_;  // [thread]

  // The step in progress; written between steps only.
  const program::Program* program_ = nullptr;
  SyncState* step_sync_ = nullptr;
  const program::StepInput* input_ = nullptr;
  program::StepOutput* output_ = nullptr;
  Clock::time_point begin_;
  std::atomic<Clock::time_point> draft_end_;      // begin_ without a draft part
  std::optional<Clock::time_point> heads_begin_;  // set by one task; nullopt without MTP heads

  program::StepTrace trace_;  // a list is its thread's

  std::atomic<uint32_t> step_ = 0;        // threads start when it changes
  std::atomic<uint32_t> unfinished_ = 0;  // threads still on the step
  std::atomic<uint32_t> stopped_ = 0;     // those of them that CpuOptions::before_task keeps
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> aborted_ = false;

  std::mutex report_mutex_;     // guards the two below while a step runs
  std::optional<Fault> fault_;  // once set, the counters are torn and every later step fails
  Status error_;
};

}  // namespace

std::unique_ptr<program::Executor> make_cpu_executor(const CpuOptions& options) {
  return std::make_unique<CpuExecutor>(options);
}

program::DeviceLimits cpu_limits(uint32_t num_workers) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
  program::DeviceLimits limits;
  limits.name = "cpu";
  limits.num_workers = num_workers != 0 ? num_workers
                       : known          ? static_cast<uint32_t>(CPU_COUNT(&allowed))
                                        : 1;
  limits.weight_page_bytes = 17'408;  // as the GPU's, so that listings compare
  limits.ring_pages = 12;
  limits.memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                        static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  return limits;
}

}  // namespace ultraspeed::cpu
