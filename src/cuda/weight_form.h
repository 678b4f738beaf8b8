// In which form each weight of a program lies in device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/machine_options.h"
#include "program/operands.h"
#include "program/program.h"

namespace ultraspeed::cuda {

enum class WeightForm : uint8_t {
  kCanonical,  // docs/weights_format.md
  // tile/mxfp4_page.h
  kGateUpPages,
  kDownPages,
  // tile/dense_page.h, of each expert; down is filled up as tile/mxfp4_page.h says
  kFp8GateUpPages,  // gate_up_order()
  kFp8DownPages,    // neighbour_order()
  // tile/dense_page.h, by the order of the rows (tile/pack_dense.h)
  kDensePages,         // neighbour_order()
  kDensePartialPages,  // neighbour_order(), in rank_chunks() K-chunks
  kDenseGateUpPages,   // gate_up_order()
  kDenseQkvPages,      // qkv_order()
};

constexpr bool is_dense(WeightForm form) {
  return form >= WeightForm::kDensePages;
}
constexpr bool is_expert(WeightForm form) {
  return form != WeightForm::kCanonical && !is_dense(form);
}

// [WeightId]. Pages where a mode has kernels that take codes of this shape; what has none is
// rounded and multiplied in binary32 (rounded_stages.h). A dense weight has pages if all stages of
// all programs that read it want the same. REQUIRES: programs are alike in weights.
std::vector<WeightForm> weight_forms(std::span<const program::Program> programs,
                                     const MachineOptions& options);

// Whether heads are normalised one by one, behind the product (ops/joined_rows.h).
inline bool has_head_norms(const program::QkvProjOperands& op) {
  return op.q_norm.weight != program::kNoId || op.k_norm.weight != program::kNoId;
}

// K-chunks of this rank's columns where they are summed apart.
inline uint32_t rank_chunks(const program::Program& program) {
  return program::kReductionChunks / program.num_ranks;
}

// The same of a dense weight in a form: 1 where they are not.
inline uint32_t form_chunks(const program::Program& program, WeightForm form) {
  return form == WeightForm::kDensePartialPages ? rank_chunks(program) : 1;
}

// Columns of a K-chunk of this rank's down.
inline uint32_t down_chunk_columns(const program::Program& program, uint32_t intermediate) {
  return intermediate / rank_chunks(program);
}

// A matrix in its form, and from it to the next.
uint64_t form_bytes(const program::Program& program, program::WeightId id, WeightForm form);
inline constexpr uint64_t kMatrixAlignment = 256;

// Fills `pages`, of form_bytes(). Errors: kUnsupported for values that pages cannot hold, or whose
// experts would spoil columns that did not choose them; dense ones have none. REQUIRES: the form is
// that of weight_forms() and not kCanonical.
Status to_pages(std::span<const program::Program> programs, program::WeightId id, WeightForm form,
                std::span<const std::byte> canonical, std::span<std::byte> pages);

}  // namespace ultraspeed::cuda
