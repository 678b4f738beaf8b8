// In which form each weight of a program lies in device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "program/arithmetic.h"
#include "program/program.h"

namespace ultraspeed::cuda {

enum class WeightForm : uint8_t {
  kCanonical,    // docs/weights_format.md
  kGateUpPages,  // tile/mxfp4_page.h
  kDownPages,
};

// [WeightId]. Pages where a mode has kernels that take codes of this shape; what has none is
// rounded and multiplied in binary32 (rounded_stages.h).
std::vector<WeightForm> weight_forms(const program::Program& program,
                                     program::Activations activations);

// Columns of a K-chunk of this rank's down.
inline uint32_t down_chunk_columns(const program::Program& program, uint32_t intermediate) {
  return intermediate / (program::kReductionChunks / program.num_ranks);
}

// A matrix in its form, and from it to the next.
uint64_t form_bytes(const program::Program& program, program::WeightId id, WeightForm form);
inline constexpr uint64_t kMatrixAlignment = 256;

// Fills `pages`, of form_bytes(). Errors: kUnsupported for values that pages cannot hold.
// REQUIRES: form is not kCanonical.
Status to_pages(const program::Program& program, program::WeightId id, WeightForm form,
                std::span<const std::byte> canonical, std::span<std::byte> pages);

}  // namespace ultraspeed::cuda
