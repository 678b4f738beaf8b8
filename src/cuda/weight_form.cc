#include "cuda/weight_form.h"

#include <algorithm>
#include <variant>

#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/pack_mxfp4.h"

namespace ultraspeed::cuda {

using program::Program;

std::vector<WeightForm> weight_forms(const Program& program, program::Activations activations) {
  std::vector<WeightForm> forms(program.weights.size(), WeightForm::kCanonical);
  if (activations != program::Activations::kW4a8 || program.num_ranks != 1) return forms;
  // Down reads what gate/up of its layer hands on, so both have pages or none.
  const program::ExpertGateUpOperands* gate_up = nullptr;
  for (const program::Stage& stage : program.stages) {
    if (const auto* op = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) gate_up = op;
    const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands);
    if (down == nullptr || gate_up == nullptr) continue;
    ExpertLaunch launch;
    launch.hidden = program.hidden_size;
    launch.intermediate = down->intermediate_size;
    launch.chunk_columns = down_chunk_columns(program, down->intermediate_size);
    const auto is_mxfp4 = [&](program::WeightId id) {
      return program.weights[id].format == tensor::WeightFormat::kMxfp4;
    };
    if (!is_mxfp4(gate_up->weight) || !is_mxfp4(down->weight) || expert_limit(launch)) continue;
    forms[gate_up->weight] = WeightForm::kGateUpPages;
    forms[down->weight] = WeightForm::kDownPages;
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
      if (chunk == kDownChunkColumns) return named(pack_down(canonical, decl.rows, decl.cols, out));
      const auto filled = fill_up_down(canonical, decl.rows, decl.cols, chunk);
      return named(pack_down(filled, decl.rows, padded_down_columns(decl.cols, chunk), out));
    }
  }
  return {};
}

}  // namespace ultraspeed::cuda
