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
  const auto choose = [&](program::WeightId id, uint32_t intermediate, WeightForm pages) {
    ExpertLaunch launch;
    launch.hidden = program.hidden_size;
    launch.intermediate = intermediate;
    launch.chunk_columns = down_chunk_columns(program, intermediate);
    const bool is_mxfp4 = program.weights[id].format == tensor::WeightFormat::kMxfp4;
    if (is_mxfp4 && expert_limit(launch) == nullptr) forms[id] = pages;
  };
  for (const program::Stage& stage : program.stages) {
    if (const auto* gate_up = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) {
      choose(gate_up->weight, gate_up->intermediate_size, WeightForm::kGateUpPages);
    } else if (const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands)) {
      choose(down->weight, down->intermediate_size, WeightForm::kDownPages);
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
