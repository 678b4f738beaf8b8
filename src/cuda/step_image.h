// A step on its way to the device and back: StepInput as the structs of view.h, in one block of
// memory that is copied at once, and the results as StepOutput.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/view.h"
#include "program/program.h"
#include "program/step.h"

namespace ultraspeed::cuda {

class StepImage {
 public:
  static Result<StepImage> make();

  // Where kernels find the step; stays where it is.
  const StepView* device_view() const { return view_.as<const StepView>(); }

  // Copies a step to the device. REQUIRES: check_step() and check_sampling() accept it.
  Status upload(const program::StepInput& input, uint32_t num_mtp_heads, cudaStream_t stream);

  // Starts copying the results back; they are there when the stream has done it.
  Status download(cudaStream_t stream);

  // The results of the step that was uploaded last, after its download. Errors: what a sampler
  // found wrong with logits or masks.
  Status read(const program::StepInput& input, program::StepOutput* output) const;

 private:
  // Where the parts of the image begin, in bytes.
  struct Layout {
    size_t columns = 0, pages = 0, adjustments = 0, mask_words = 0, next_tokens = 0;
    size_t results = 0, logprobs = 0, end = 0;
  };

  Status reserve(size_t size_bytes);
  void fill(const program::StepInput& input, uint32_t num_mtp_heads);

  Layout layout_;
  DeviceMemory view_;    // StepView
  DeviceMemory device_;  // the image
  PinnedMemory host_;    // the same, and behind it the StepView
};

}  // namespace ultraspeed::cuda
