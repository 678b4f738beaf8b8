#include "cuda/resident/postbox.h"

#include <atomic>
#include <new>

namespace ultraspeed::cuda {

Result<Postbox> Postbox::make() {
  Postbox box;
  US_ASSIGN(box.board_, DeviceMemory::allocate(sizeof(Board)));
  US_ASSIGN(box.memory_, PinnedMemory::allocate(sizeof(Mailbox)));
  new (box.memory_.data()) Mailbox();
  return box;
}

Result<uint32_t> Postbox::open(cudaStream_t stream) {
  US_TRY(cuda_status(cudaMemsetAsync(board_.data(), 0, board_.size_bytes(), stream),
                     "starting the kernel"));
  Mailbox& box = *mailbox();
  box.has_fault = 0;
  if (box.number == ~0U) box.number = 0;  // 0 is no step's: the board begins with it
  return box.number + 1;
}

void Postbox::post(const ResidentCommand& command) {
  mailbox()->command = command;
  std::atomic_ref(mailbox()->number).fetch_add(1, std::memory_order_release);
}

// Acquire: the step's results are in the image. Partners: StepExchange::end_step(), and who finds a
// wait too long.
Result<Postbox::Answer> Postbox::await(const std::function<cudaError_t()>& state) {
  constexpr uint32_t kSpins = 1 << 16;
  Mailbox& box = *mailbox();
  const auto is_answered = [&] {
    return std::atomic_ref(box.answer).load(std::memory_order_acquire) == box.number;
  };
  for (;;) {
    const bool has_fault = std::atomic_ref(box.has_fault).load(std::memory_order_acquire) != 0;
    if (has_fault) return Answer::kFault;
    for (uint32_t i = 0; i < kSpins; ++i) {
      if (is_answered()) return Answer::kDone;
    }
    const cudaError_t now = state();
    // A fault that was told before they returned is found above.
    if (now == cudaErrorNotReady || is_answered() ||
        std::atomic_ref(box.has_fault).load(std::memory_order_acquire) != 0) {
      continue;
    }
    US_TRY(cuda_status(now, "running a step"));
    return Answer::kEnded;
  }
}

}  // namespace ultraspeed::cuda
