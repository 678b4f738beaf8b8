// A step's way from the host's mailbox to the CTAs of the kernels that stay, and that of its
// results back: the words of resident.h but for counters.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ptx/counter.cuh"
#include "cuda/ptx/timer.cuh"
#include "cuda/resident/resident.h"

namespace ultraspeed::cuda {

// Reads the host's memory anew.
template <class T>
__device__ T load_anew(const T* from) {
  return __ldcv(from);
}

// By all threads of a task: whole words of 4 bytes.
inline __device__ void copy_words(void* to, const void* from, uint32_t size_bytes) {
  for (uint32_t i = threadIdx.x; i < size_bytes / 4; i += kTaskThreads) {
    static_cast<uint32_t*>(to)[i] = load_anew(static_cast<const uint32_t*>(from) + i);
  }
}

// The same, of 16 bytes, loads ahead. REQUIRES: multiples of 16.
inline __device__ void copy_quads(std::byte* to, const std::byte* from, uint64_t size_bytes) {
  constexpr uint32_t kAhead = 4;
  const uint64_t count = size_bytes / 16;
  for (uint64_t begin = threadIdx.x; begin < count; begin += kAhead * kTaskThreads) {
    uint4 quads[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint64_t at = begin + i * kTaskThreads;
      if (at < count) quads[i] = load_anew(reinterpret_cast<const uint4*>(from) + at);
    }
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint64_t at = begin + i * kTaskThreads;
      if (at < count) reinterpret_cast<uint4*>(to)[at] = quads[i];
    }
  }
}

static_assert(sizeof(ResidentCommand) % 4 == 0 && sizeof(StepView) % 4 == 0);

// For one thread: waits until step `number` is on the board. False when the kernel was aborted.
// Partner: StepExchange::fetch().
inline __device__ bool await_board(const Board& board, uint32_t number) {
  constexpr uint32_t kQuickPolls = 1000;
  for (uint32_t i = 0; ptx::load_acquire(&board.number) != number; ++i) {
    if (ptx::load_acquire(&board.aborted) != 0) return false;
    if (i > kQuickPolls) __nanosleep(100);
  }
  return true;
}

// Of a CTA that runs tasks; its threads call everything together. One CTA speaks with the host.
class StepExchange {
 public:
  // command: shared. num_ctas: that count themselves at the end of a step, of all kernels.
  __device__ StepExchange(Mailbox* mailbox, Board* board, uint32_t first_number, uint32_t num_ctas,
                          ResidentCommand* command, bool speaks_with_host)
      : mailbox_(mailbox),
        board_(board),
        first_number_(first_number),
        num_ctas_(num_ctas),
        command_(command),
        speaks_with_host_(speaks_with_host) {}

  __device__ const ResidentCommand& command() const { return *command_; }

  // Waits for the next step. False: the kernel returns.
  __device__ bool begin_step() {
    const bool goes_on = speaks_with_host_ ? fetch() : await();
    return goes_on && command_->program != kStopProgram;
  }

  // When the CTA's part is done. The host is answered as soon as all have counted themselves; one
  // that waits for nothing comes to its end, so that there is no deadline here. False: the kernel
  // returns.
  __device__ bool end_step() {
    task_barrier();
    const uint32_t number = first_number_ + num_steps_++;
    if (threadIdx.x == 0) ptx::add_release(&board_->done, 1);  // partner: below
    if (!speaks_with_host_) return true;
    bool is_met = true;
    if (threadIdx.x == 0) {
      const uint32_t all = num_ctas_ * num_steps_;
      while (ptx::load_acquire(&board_->done) != all && is_met) is_met = !is_aborted();
      is_met = is_met && !is_aborted();  // those that did not stop on the spot count, too
    }
    if (!all_of_task(is_met)) return false;
    const StepTransfer& step = command_->step;
    copy_quads(step.host + step.results_begin, step.device + step.results_begin,
               step.end - step.results_begin);
    if (threadIdx.x == 0) {
      mailbox_->times = {.begin = board_->times.begin,
                         .draft_end = board_->times.draft_end,
                         .heads_begin = board_->times.heads_begin,
                         .end = ptx::global_nanoseconds()};
    }
    task_barrier();
    // Partner: Postbox::await().
    if (threadIdx.x == 0) ptx::store_release_system(&mailbox_->answer, number);
    return true;
  }

  // For one thread, before a stage and behind it: when MTP heads begin, and drafting ends, with the
  // latest of the tasks that propose.
  __device__ void note_heads(const StageOperands& stage) const {
    if (stage.opcode != program::Opcode::kFollow) return;
    if (!stage.as<program::FollowOperands>().begins_heads()) return;
    board_->times.heads_begin = ptx::global_nanoseconds();
  }
  __device__ void note_draft(const StageOperands& stage) const {
    if (stage.opcode != program::Opcode::kPropose) return;
    if (!stage.as<program::ProposeOperands>().ends_draft()) return;
    atomicMax(&board_->times.draft_end, static_cast<unsigned long long>(ptx::global_nanoseconds()));
  }

 private:
  __device__ bool is_aborted() const { return ptx::load_acquire(&board_->aborted) != 0; }

  // Waits for the host, longer and longer from poll to poll; shows the step to the other CTAs.
  // False when the kernel was aborted.
  __device__ bool fetch() {
    const uint32_t number = first_number_ + num_steps_;
    bool goes_on = true;
    if (threadIdx.x == 0) {
      uint32_t pause_ns = 20;
      // Partner: Postbox::post().
      while (ptx::load_acquire_system(&mailbox_->number) != number) {
        goes_on = !is_aborted();
        if (!goes_on) break;
        __nanosleep(pause_ns);
        pause_ns = min(pause_ns + pause_ns / 16, 4000u);
      }
    }
    if (!all_of_task(goes_on)) return false;
    copy_words(command_, &mailbox_->command, sizeof(ResidentCommand));
    task_barrier();
    // All CTAs have copied the one before: they counted themselves done, or there was no answer.
    copy_words(&board_->command, &mailbox_->command, sizeof(ResidentCommand));
    const StepTransfer& step = command_->step;
    if (command_->program != kStopProgram && step.device_view != nullptr) {
      copy_words(step.device_view, step.host_view, sizeof(StepView));
      copy_quads(step.device, step.host, step.upload_end);
    }
    if (threadIdx.x == 0) {
      const uint64_t now = ptx::global_nanoseconds();
      board_->times = {.begin = now, .draft_end = now, .heads_begin = 0, .end = 0};
    }
    task_barrier();
    // Partner: await_board().
    if (threadIdx.x == 0) ptx::store_release(&board_->number, number);
    return true;
  }

  __device__ bool await() {
    bool goes_on = true;
    if (threadIdx.x == 0) goes_on = await_board(*board_, first_number_ + num_steps_);
    if (!all_of_task(goes_on)) return false;
    copy_words(command_, &board_->command, sizeof(ResidentCommand));
    task_barrier();
    return true;
  }

  Mailbox* const mailbox_;
  Board* const board_;
  const uint32_t first_number_;
  const uint32_t num_ctas_;
  ResidentCommand* const command_;
  const bool speaks_with_host_;
  uint32_t num_steps_ = 0;  // that have ended
};

}  // namespace ultraspeed::cuda
