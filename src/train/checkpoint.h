// What a training run needs to go on as if it had not been stopped: numbers, moments and where it
// was. Anchors and the order of texts are functions of the step, so no generator's state is kept.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

struct NamedTensor {
  std::string name;
  torch::Tensor value;  // f32
};

struct CheckpointState {
  std::string run;           // the options that both parts of a run must share, as text
  uint64_t num_steps = 0;    // that were done
  uint64_t num_updates = 0;  // those of them that had a block to learn from
  double seconds = 0;        // of training so far
};

// Replaces the file at once: a run that dies meanwhile keeps the old one. Errors: kInternal for
// numbers that are not finite, which no run can go on from; kIo.
Status write_checkpoint(const std::string& path, const CheckpointState& state,
                        const std::vector<NamedTensor>& tensors);

// Copies the values into `tensors`, which must have the names and shapes that were written.
// Errors: kInvalidData for damage, kInvalidArgument for another run's.
Result<CheckpointState> read_checkpoint(const std::string& path, const std::string& run,
                                        const std::vector<NamedTensor>& tensors);

// The first tensors of a checkpoint of any run, which must have these names and shapes, and what is
// not in them: for a run that begins with another one's net.
struct CheckpointStart {
  std::string run;
  uint64_t num_steps = 0;
  uint64_t file_sum = 0;  // the file's checksum
};
Result<CheckpointStart> read_checkpoint_start(const std::string& path);
Status read_first_tensors(const std::string& path, const std::vector<NamedTensor>& tensors);

}  // namespace ultraspeed::train
