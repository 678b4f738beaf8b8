// The activation of an expert, computed from its weights as a checkpoint stores them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "quantize/stored_matrix.h"

namespace ultraspeed::quantize {

class ExpertActivation {
 public:
  // Reads both matrices, [inner, hidden], of one shape, as f32.
  static Result<ExpertActivation> read(const StoredMatrix& gate, const StoredMatrix& up);

  // silu(gate x) * (up x), f32 [rows, inner], of `rows` f32 [rows, hidden]. The result does not
  // depend on the number of threads.
  std::vector<float> of(uint32_t num_threads, std::span<const float> rows) const;

 private:
  uint32_t inner_ = 0, hidden_ = 0;
  std::vector<float> gate_, up_;
};

}  // namespace ultraspeed::quantize
