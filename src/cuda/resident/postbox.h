// The host's side of what kernels that stay are told and tell (resident.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/resident/resident.h"

namespace ultraspeed::cuda {

class Postbox {
 public:
  static Result<Postbox> make();

  Mailbox* mailbox() const { return memory_.as<Mailbox>(); }
  Board* board() const { return board_.as<Board>(); }

  // Before each launch, in its stream: the number of the first command behind it. REQUIRES: no
  // kernel stays.
  Result<uint32_t> open(cudaStream_t stream);

  // Release: partner StepExchange::fetch().
  void post(const ResidentCommand& command);

  enum class Answer : uint8_t {
    kDone,   // the step's results are in its image, its times in the mailbox
    kFault,  // a wait passed its deadline; the kernels return
    kEnded,  // they have returned, with cudaSuccess
  };
  // Waits for the answer to what was posted last. state(): of the kernels, cudaErrorNotReady while
  // they run; another one than cudaSuccess is the error.
  Result<Answer> await(const std::function<cudaError_t()>& state);

 private:
  PinnedMemory memory_;
  DeviceMemory board_;
};

}  // namespace ultraspeed::cuda
