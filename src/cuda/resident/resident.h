// What resident kernels (resident_kernel.h, and phase_kernel.h for its own programs) and their host
// tell each other: programs as the former runs them, the mailbox in memory of the host, and the
// board on which CTAs find the step.
//
// A step, by the words that hand it on, each written with release and polled with acquire:
//   mailbox.number    host -> one CTA      a command and an image of the step lie in host memory
//   board.number      that -> all CTAs     they lie on the device
//   counters, flags   task -> task         program/task.h
//   board.done        all CTAs -> that     a CTA's list is done, and it needs the command no more
//   mailbox.answer    that CTA -> host     results and times lie in host memory
// A wait for counters or flags that passes its deadline ends all waits: board.aborted tells the
// CTAs, which note what they wait for and return (those that stream run to the end of the step
// first, without waiting), mailbox.has_fault the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/ops/stage.h"
#include "cuda/view.h"
#include "program/operands.h"
#include "program/trace.h"

namespace ultraspeed::cuda {

// program::Operands without its variant.
struct alignas(8) StageOperands {
  static constexpr size_t kBytes = sizeof(program::Operands);

  template <class Op>
  static StageOperands of(const Op& op) {
    static_assert(std::is_trivially_copyable_v<Op> && sizeof(Op) <= kBytes);
    StageOperands stage;
    stage.opcode = Op::kOpcode;
    std::memcpy(stage.bytes, &op, sizeof(op));
    return stage;
  }

  template <class Op>
  __host__ __device__ const Op& as() const {
    static_assert(sizeof(Op) <= kBytes);
    return *reinterpret_cast<const Op*>(bytes);
  }

  program::Opcode opcode = program::Opcode::kEmbed;
  alignas(8) std::byte bytes[kBytes] = {};
};

// Device pointers. CTA c runs tasks [first_task[c], first_task[c + 1]) in order.
struct ResidentProgram {
  const RankTask* tasks = nullptr;
  const uint32_t* first_task = nullptr;      // [CTAs + 1]
  const StageOperands* stages = nullptr;     // [stage]
  const uint64_t* buffer_offsets = nullptr;  // [BufferId], in floats
  uint32_t* counters = nullptr;              // [rank, num_counters]; program/task.h
  uint32_t* flags = nullptr;                 // [rank, num_flags]
  uint32_t num_counters = 0, num_flags = 0;  // of a rank
  program::TaskTime* times = nullptr;        // [task]; nullptr: nobody asks
};

inline constexpr uint32_t kStopProgram = ~0u;

struct ResidentCommand {
  uint32_t program = kStopProgram;  // kStopProgram: return
  uint32_t epoch = 0;               // steps of this program, this one included, since it started
  uint32_t num_steps = 1;           // of the same image, one behind the other; of phases alone
  StepTransfer step;                // without pointers: the image is on the device
};

// Nanoseconds of the device's clock.
struct StepTimes {
  unsigned long long begin = 0;
  unsigned long long draft_end = 0;    // begin without a draft part
  unsigned long long heads_begin = 0;  // 0 without MTP heads
  unsigned long long end = 0;

  double draft_seconds() const {
    const unsigned long long heads = heads_begin == 0 ? 0 : end - heads_begin;
    return static_cast<double>(draft_end - begin + heads) * 1e-9;
  }
};

// What a CTA waited for when the step was aborted.
struct ResidentFault {
  uint32_t is_set = 0;
  uint32_t task = 0;  // of the CTA's list
  program::Wait wait;
  uint32_t id = 0;    // of the counter, or of the flag that was not set
  uint32_t have = 0;  // increments of this epoch; flags: the epoch that it holds
};

// Pinned. Numbers have lines of their own: each is polled by one side alone.
struct Mailbox {
  alignas(128) uint32_t number = 0;  // of the last command; written last
  alignas(128) ResidentCommand command;
  alignas(128) uint32_t answer = 0;  // number of the last step that is done; written last
  uint32_t has_fault = 0;            // the kernel returns
  StepTimes times;
};

// On the device.
struct Board {
  alignas(128) uint32_t number = 0;  // of the step that may run
  alignas(128) uint32_t done = 0;    // CTAs that have ended a step, of all steps since the launch
  alignas(128) uint32_t aborted = 0;
  uint32_t left = 0;  // CTAs of phases that return because of that
  ResidentCommand command;
  StepTimes times;
};

// A kernel parameter.
struct Resident {
  MachineView machine;
  const ResidentProgram* programs = nullptr;  // device
  const StepView* step = nullptr;             // device
  Mailbox* mailbox = nullptr;                 // pinned
  Board* board = nullptr;                     // device, zero at the launch
  ResidentFault* faults = nullptr;            // device, [CTA], zero at the launch
  uint32_t first_number = 0;                  // of the first command after the launch
  uint64_t deadline_ns = 0;                   // of every wait for counters and flags
};

}  // namespace ultraspeed::cuda
