#include "cuda/weight_form.h"

#include <variant>

#include "base/check.h"
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

Status to_pages(const Program& program, program::WeightId id, WeightForm form,
                std::span<const std::byte> canonical, std::span<std::byte> pages) {
  US_CHECK(form != WeightForm::kCanonical);
  const program::WeightDecl& decl = program.weights[id];
  const auto pack = [&]() -> Status {
    if (form == WeightForm::kGateUpPages) {
      return pack_gate_up(canonical, decl.rows / 2, decl.cols, pages);
    }
    const uint32_t chunk = down_chunk_columns(program, decl.cols);
    if (chunk == kDownChunkColumns) return pack_down(canonical, decl.rows, decl.cols, pages);
    const auto filled = fill_up_down(canonical, decl.rows, decl.cols, chunk);
    return pack_down(filled, decl.rows, padded_down_columns(decl.cols, chunk), pages);
  };
  const Status packed = pack();
  if (packed) return {};
  return make_error(packed.error().code, "{}: {}", decl.name, packed.error().message);
}

}  // namespace ultraspeed::cuda
