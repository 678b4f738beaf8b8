#include "cuda/weight_form.h"

#include <algorithm>
#include <variant>

#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/pack_mxfp4.h"

namespace ultraspeed::cuda {
namespace {

using program::Program;
using tensor::WeightFormat;

Status check_expert(const Program& program, const program::Stage& stage, program::WeightId id,
                    uint32_t intermediate) {
  const program::WeightDecl& decl = program.weights[id];
  const char* limit = decl.format == WeightFormat::kMxfp4
                          ? expert_limit(program.hidden_size, intermediate,
                                         down_chunk_columns(program, intermediate))
                          : "w4a8 takes MXFP4 experts";
  if (limit == nullptr) return {};
  return make_error(ErrorCode::kUnsupported,
                    "the GPU cannot run '{}' of program '{}' in w4a8: {} ({} is {}, [{}, {}]); "
                    "run it in f32",
                    stage.name, program.name, limit, decl.name,
                    tensor::weight_format_name(decl.format), decl.rows, decl.cols);
}

}  // namespace

Result<std::vector<WeightForm>> weight_forms(const Program& program, Arithmetic arithmetic) {
  std::vector<WeightForm> forms(program.weights.size(), WeightForm::kCanonical);
  if (arithmetic == Arithmetic::kF32) return forms;
  if (program.num_ranks != 1) {
    return make_error(ErrorCode::kUnsupported, "w4a8 runs on one rank; got {}", program.num_ranks);
  }
  for (const program::Stage& stage : program.stages) {
    if (const auto* gate_up = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) {
      US_TRY(check_expert(program, stage, gate_up->weight, gate_up->intermediate_size));
      forms[gate_up->weight] = WeightForm::kGateUpPages;
    } else if (const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands)) {
      US_TRY(check_expert(program, stage, down->weight, down->intermediate_size));
      forms[down->weight] = WeightForm::kDownPages;
    }
  }
  return forms;
}

uint64_t form_bytes(const Program& program, program::WeightId id, WeightForm form) {
  const program::WeightDecl& decl = program.weights[id];
  const uint64_t bytes =
      form == WeightForm::kDownPages
          ? packed_bytes(decl.format, decl.rows,
                         padded_down_columns(decl.cols, down_chunk_columns(program, decl.cols)))
          : decl.matrix_bytes();
  return (bytes + kMatrixAlignment - 1) / kMatrixAlignment * kMatrixAlignment;
}

Status to_form(const Program& program, program::WeightId id, WeightForm form,
               std::span<const std::byte> canonical, std::span<std::byte> out) {
  const program::WeightDecl& decl = program.weights[id];
  const auto named = [&](const Status& status) -> Status {
    if (status) return {};
    return make_error(status.error().code, "{}: {}", decl.name, status.error().message);
  };
  switch (form) {
    case WeightForm::kCanonical:
      std::ranges::copy(canonical, out.begin());
      return {};
    case WeightForm::kGateUpPages:
      return named(pack_gate_up(canonical, decl.rows / 2, decl.cols, out));
    case WeightForm::kDownPages: {
      const uint32_t chunk = down_chunk_columns(program, decl.cols);
      const auto filled = fill_up_down(canonical, decl.rows, decl.cols, chunk);
      return named(pack_down(filled, decl.rows, padded_down_columns(decl.cols, chunk), out));
    }
  }
  return {};
}

}  // namespace ultraspeed::cuda
