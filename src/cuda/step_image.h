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

  // Lays out a step of a program. Whether prepare() will allocate memory, for which it waits for
  // the device. REQUIRES: check_step() and check_sampling() accept the step.
  bool lay_out(const program::Program& program, const program::StepInput& input);

  // Makes the image of the step that was laid out, on the host, for whoever copies it.
  Result<StepTransfer> prepare(const program::StepInput& input);

  // Does both, and copies it to the device.
  Status upload(const program::Program& program, const program::StepInput& input,
                cudaStream_t stream);

  // Starts copying the results back; they are there when the stream has done it.
  Status download(cudaStream_t stream);

  // The results of the step that was uploaded last, after its download. Errors: what a sampler
  // found wrong with logits or masks.
  Status read(const program::StepInput& input, program::StepOutput* output) const;

 private:
  // Where the parts of the image begin, in bytes. From `results` on they come back.
  struct Layout {
    size_t columns = 0, pages = 0, adjustments = 0, mask_words = 0, next_tokens = 0;
    size_t proposed_logits = 0;
    size_t results = 0, logprobs = 0, drawn_logits = 0, end = 0;
  };

  // The MTP heads of the program that runs.
  struct Heads {
    uint32_t count = 0, vocab_size = 0;
    size_t num_logits() const { return size_t{count} * vocab_size; }
  };

  Status reserve(size_t size_bytes);
  void fill(const program::StepInput& input);

  Heads heads_;
  Layout layout_;
  DeviceMemory view_;    // StepView
  DeviceMemory device_;  // the image
  PinnedMemory host_;    // the same, and behind it the StepView
};

}  // namespace ultraspeed::cuda
