#include "cuda/weight_form.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <variant>

#include "base/check.h"
#include "cuda/ops/dense.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/pack_dense.h"
#include "cuda/tile/pack_mxfp4.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {

using program::Program;
using program::WeightId;

namespace {

DenseMatrix dense_matrix(const Program& program, WeightId id, WeightForm form) {
  const program::WeightDecl& decl = program.weights[id];
  uint32_t chunks = form_chunks(program, form);
  if (form == WeightForm::kFp8DownPages && has_own_page(down_chunk_columns(program, decl.cols))) {
    chunks = rank_chunks(program);
  }
  return {decl.format, decl.rows, decl.cols, chunks};
}

QkvShape qkv_shape(const program::QkvProjOperands& op) {
  return {op.num_q_heads, op.num_kv_heads, op.head_dim, op.v_head_dim, op.rotary_dim};
}

// The first stage that makes heads of this weight; nullptr if there is none.
const program::QkvProjOperands* qkv_stage(std::span<const Program> programs, WeightId id) {
  for (const Program& program : programs) {
    for (const program::Stage& stage : program.stages) {
      const auto* op = std::get_if<program::QkvProjOperands>(&stage.operands);
      if (op != nullptr && op->weight == id) return op;
    }
  }
  return nullptr;
}

// Finds the forms of dense weights.
class DenseForms {
 public:
  explicit DenseForms(std::span<const Program> programs)
      : programs_(programs), wanted_(programs[0].weights.size()) {
    for (const Program& program : programs) {
      for (const program::Stage& stage : program.stages) {
        std::visit([&](const auto& op) { add(program, op); }, stage.operands);
      }
    }
  }

  // Those with pages, to `forms`.
  void write(std::vector<WeightForm>& forms) const {
    for (WeightId id = 0; id < wanted_.size(); ++id) {
      if (wanted_[id] && is_dense(*wanted_[id])) forms[id] = *wanted_[id];
    }
  }

 private:
  void want(WeightId id, WeightForm form) {
    if (id == program::kNoId) return;
    if (wanted_[id] && *wanted_[id] != form) form = WeightForm::kCanonical;
    wanted_[id] = form;
  }

  // What a product takes its weight in, if nothing else of the stage stands against pages.
  static WeightForm form_of(const Program& program, WeightId id, const program::NormRef& norm,
                            WeightForm pages) {
    const DenseMatrix matrix = dense_matrix(program, id, pages);
    const bool has_norm = norm.weight != program::kNoId;
    const bool has_kernels = program.weights[id].count == 1 &&
                             !dense_input_limit(matrix.columns, has_norm) &&
                             check_dense(matrix).has_value();
    return has_kernels ? pages : WeightForm::kCanonical;
  }

  void add(const Program& program, const program::QkvProjOperands& op) {
    const bool is_even = op.head_dim % 2 == 0 && op.v_head_dim % 2 == 0 && op.rotary_dim % 2 == 0;
    const bool adds_bias = op.bias != program::kNoId && has_head_norms(op);  // to sums of HeadRows
    const bool fits =
        is_even && !adds_bias && qkv_shape(op) == qkv_shape(*qkv_stage(programs_, op.weight));
    const WeightForm pages =
        has_head_norms(op) ? WeightForm::kDensePages : WeightForm::kDenseQkvPages;
    want(op.weight, fits ? form_of(program, op.weight, op.norm, pages) : WeightForm::kCanonical);
  }

  void add(const Program& program, const program::OutProjOperands& op) {
    want(op.weight, form_of(program, op.weight, {}, WeightForm::kDensePartialPages));
  }

  void add(const Program& program, const program::GateUpOperands& op) {
    want(op.weight, form_of(program, op.weight, op.norm, WeightForm::kDenseGateUpPages));
  }

  void add(const Program& program, const program::LinearOperands& op) {
    const bool is_joined = op.more_inputs[0] != program::kNoId;
    const bool has_norms =
        op.norm.weight != program::kNoId || op.second_norm.weight != program::kNoId;
    const bool can_join = !has_norms && program.hidden_size % 4 == 0;  // ops/joined_rows.h
    const bool fits = (!is_joined || can_join) && op.total_rows % 2 == 0;
    want(op.weight, fits ? form_of(program, op.weight, op.norm, WeightForm::kDensePages)
                         : WeightForm::kCanonical);
  }

  void add(const Program&, const program::EmbedOperands& op) {
    want(op.table, WeightForm::kCanonical);
    want(op.mask, WeightForm::kCanonical);
  }

  // Others have no dense weights.
  template <class Op>
  void add(const Program&, const Op&) {}

  std::span<const Program> programs_;
  std::vector<std::optional<WeightForm>> wanted_;  // [WeightId]; nullopt: no stage reads it
};

void find_expert_forms(const Program& program, std::vector<WeightForm>& forms) {
  // Down reads what gate/up of its layer hands on, so both have pages or none. Layers share their
  // operands: those that are not like the first with pages have none.
  const program::ExpertGateUpOperands* gate_up = nullptr;
  const program::ExpertGateUpOperands* first = nullptr;
  const auto is_like_first = [&](const program::ExpertGateUpOperands& op) {
    return first == nullptr ||
           (program.weights[op.weight].format == program.weights[first->weight].format &&
            op.intermediate_size == first->intermediate_size && op.max_slots == first->max_slots);
  };
  for (const program::Stage& stage : program.stages) {
    if (const auto* op = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) gate_up = op;
    const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands);
    if (down == nullptr || gate_up == nullptr) continue;
    ExpertLaunch launch;
    launch.format = program.weights[gate_up->weight].format;
    launch.hidden = program.hidden_size;
    launch.intermediate = down->intermediate_size;
    launch.chunk_columns = down_chunk_columns(program, down->intermediate_size);
    if (program.weights[down->weight].format != launch.format || expert_limit(launch)) continue;
    const bool is_plain = gate_up->bias == program::kNoId && down->bias == program::kNoId &&
                          gate_up->clamp.limit == 0;
    if (launch.format != tensor::WeightFormat::kMxfp4 && !is_plain) continue;
    if (!is_like_first(*gate_up)) continue;
    if (first == nullptr) first = gate_up;
    const bool is_fp8 = launch.format == tensor::WeightFormat::kFp8Block128;
    forms[gate_up->weight] = is_fp8 ? WeightForm::kFp8GateUpPages : WeightForm::kGateUpPages;
    forms[down->weight] = is_fp8 ? WeightForm::kFp8DownPages : WeightForm::kDownPages;
  }
}

// Without what aligns the next matrix.
uint64_t page_bytes(const Program& program, WeightId id, WeightForm form) {
  const program::WeightDecl& decl = program.weights[id];
  switch (form) {
    case WeightForm::kCanonical:
      return decl.matrix_bytes();
    case WeightForm::kGateUpPages:
      return packed_bytes(decl.format, decl.rows, gate_up_columns(decl.cols));
    case WeightForm::kDownPages:
      return packed_bytes(decl.format, padded_down_rows(decl.rows),
                          padded_down_columns(decl.cols, down_chunk_columns(program, decl.cols)));
    default:
      return dense_page_bytes(dense_matrix(program, id, form));
  }
}

RowOrder order_of(std::span<const Program> programs, WeightId id, WeightForm form) {
  const uint32_t rows = programs[0].weights[id].rows;
  if (form == WeightForm::kDensePages || form == WeightForm::kDensePartialPages) {
    return neighbour_order(rows);
  }
  if (form == WeightForm::kDenseGateUpPages) return gate_up_order(rows / 2);
  const program::QkvProjOperands* op = qkv_stage(programs, id);
  US_CHECK(op != nullptr, "no stage makes heads of weight {}", id);
  return qkv_order(qkv_shape(*op));
}

// Every column of a step is multiplied with each live expert, those that did not choose it with
// zeros: only numbers make that nothing.
Status check_numbers(const DenseMatrix& matrix, std::span<const std::byte> canonical) {
  const uint64_t codes = tensor::code_bytes(matrix.format, matrix.rows, matrix.columns);
  for (uint64_t i = 0; i < codes; ++i) {
    if ((canonical[i] & std::byte{0x7f}) != std::byte{tensor::kE4m3Nan}) continue;
    return make_error(ErrorCode::kUnsupported,
                      "row {} has a NaN in column {}, which the GPU's expert products cannot hold",
                      i / matrix.columns, i % matrix.columns);
  }
  for (uint64_t i = codes; i < canonical.size(); i += sizeof(float)) {
    float scale = 0;
    std::memcpy(&scale, &canonical[i], sizeof(scale));
    if (std::isfinite(scale)) continue;
    return make_error(ErrorCode::kUnsupported,
                      "scale {} is {}, which the GPU's expert products cannot hold",
                      (i - codes) / sizeof(float), scale);
  }
  return {};
}

Status to_fp8_expert_pages(const Program& program, WeightId id, WeightForm form,
                           std::span<const std::byte> canonical, std::span<std::byte> pages) {
  const DenseMatrix matrix = dense_matrix(program, id, form);
  US_TRY(check_numbers(matrix, canonical));
  const bool is_down = form == WeightForm::kFp8DownPages;
  pack_dense(matrix, is_down ? neighbour_order(matrix.rows) : gate_up_order(matrix.rows / 2),
             canonical, pages);
  return {};
}

Status to_expert_pages(const Program& program, WeightId id, WeightForm form,
                       std::span<const std::byte> canonical, std::span<std::byte> pages) {
  const program::WeightDecl& decl = program.weights[id];
  const auto pack = [&]() -> Status {
    if (form == WeightForm::kFp8GateUpPages || form == WeightForm::kFp8DownPages) {
      return to_fp8_expert_pages(program, id, form, canonical,
                                 pages.first(page_bytes(program, id, form)));
    }
    if (form == WeightForm::kGateUpPages) {
      const uint32_t neurons = decl.rows / 2, columns = gate_up_columns(decl.cols);
      if (columns == decl.cols) return pack_gate_up(canonical, neurons, columns, pages);
      return pack_gate_up(fill_up_gate_up(canonical, neurons, decl.cols), neurons, columns, pages);
    }
    const uint32_t chunk = down_chunk_columns(program, decl.cols);
    const uint32_t rows = padded_down_rows(decl.rows);
    const uint32_t columns = padded_down_columns(decl.cols, chunk);
    if (columns == decl.cols && rows == decl.rows) {
      return pack_down(canonical, rows, columns, pages);
    }
    return pack_down(fill_up_down(canonical, decl.rows, decl.cols, chunk), rows, columns, pages);
  };
  const Status packed = pack();
  if (packed) return {};
  return make_error(packed.error().code, "{}: {}", decl.name, packed.error().message);
}

}  // namespace

std::vector<WeightForm> weight_forms(std::span<const Program> programs,
                                     const MachineOptions& options) {
  const Program& first = programs[0];
  std::vector<WeightForm> forms(first.weights.size(), WeightForm::kCanonical);
  if (options.activations != program::Activations::kW4a8 || !options.is_single(first)) return forms;
  find_expert_forms(first, forms);
  DenseForms(programs).write(forms);
  return forms;
}

uint64_t form_bytes(const Program& program, WeightId id, WeightForm form) {
  const uint64_t bytes = page_bytes(program, id, form);
  return (bytes + kMatrixAlignment - 1) / kMatrixAlignment * kMatrixAlignment;
}

Status to_pages(std::span<const Program> programs, WeightId id, WeightForm form,
                std::span<const std::byte> canonical, std::span<std::byte> pages) {
  US_CHECK(form != WeightForm::kCanonical);
  if (!is_dense(form)) return to_expert_pages(programs[0], id, form, canonical, pages);
  const DenseMatrix matrix = dense_matrix(programs[0], id, form);
  pack_dense(matrix, order_of(programs, id, form), canonical,
             pages.first(dense_page_bytes(matrix)));
  return {};
}

}  // namespace ultraspeed::cuda
