#include "cuda/bench/general_stages.h"

#include <variant>

#include "cuda/ops/dense.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/tile/pack_dense.h"

namespace ultraspeed::cuda {
namespace {

using program::Program;
using tensor::WeightFormat;

// What the rules of weight_form.h have against pages for a weight that has none.
std::string dense_reason(const program::WeightDecl& weight, uint32_t num_chunks, bool has_norm) {
  if (weight.format == WeightFormat::kF32) {
    if (weight.cols % kF32ProductColumns == 0) return "";
    return fmt::format("the product of F32 matrices takes a multiple of {} columns, not {}",
                       kF32ProductColumns, weight.cols);
  }
  const Status fits = check_dense({weight.format, weight.rows, weight.cols, num_chunks});
  if (!fits) return fits.error().message;
  const char* limit = dense_input_limit(weight.cols, has_norm);
  return limit == nullptr ? "the GPU's dense products do not take this stage"
                          : fmt::format("the GPU's dense products do not take {}", limit);
}

std::string expert_reason(const Program& program, const program::WeightDecl& weight,
                          uint32_t intermediate) {
  if (weight.format != WeightFormat::kMxfp4 && weight.format != WeightFormat::kFp8Block128) {
    return fmt::format("the GPU's expert products have no {} weights",
                       weight_format_name(weight.format));
  }
  ExpertLaunch launch;
  launch.format = weight.format;
  launch.hidden = program.hidden_size;
  launch.intermediate = intermediate;
  launch.chunk_columns = down_chunk_columns(program, intermediate);
  const char* limit = expert_limit(launch);
  if (limit == nullptr) {
    limit =
        "the layer's two products both have kernels or none has, FP8 ones no biases and no clamp";
  }
  return fmt::format("{}, not experts [{}, {}] in K-chunks of {} columns", limit, weight.rows,
                     weight.cols, launch.chunk_columns);
}

// In which K-chunks a stage's product is summed; 0: it is no dense product.
template <class Op>
uint32_t dense_chunks(const Program& program) {
  if (std::is_same_v<Op, program::OutProjOperands>) return rank_chunks(program);
  const bool is_whole = std::is_same_v<Op, program::QkvProjOperands> ||
                        std::is_same_v<Op, program::GateUpOperands> ||
                        std::is_same_v<Op, program::LinearOperands>;
  return is_whole ? 1 : 0;
}

}  // namespace

std::string general_reason(const Program& program, const StepForms& forms,
                           const program::Stage& stage, const MachineOptions& options) {
  const bool has_pages =
      options.activations == program::Activations::kW4a8 && options.is_single(program);
  return std::visit(
      [&]<class Op>([[maybe_unused]] const Op& op) -> std::string {
        if constexpr (std::is_same_v<Op, program::AttentionOperands>) {
          const bool is_general = options.kv_cache != program::KvCacheType::kF32 &&
                                  op.cache != program::kNoId &&
                                  forms.caches[op.cache] == CacheForm::kRows;
          if (!is_general) return "";
          return fmt::format(
              "attention on tensor cores takes heads of a multiple of 8 of at most {} and {} "
              "dimensions in groups of at most {}, causal or in steps of at most {} columns, not "
              "of {} and {} in groups of {} in steps of {}: rounded keys and values are read as "
              "F32",
              kFlashHeadDim, kFlashValueDim, kMaxFlashGroup, kMaxFlashColumns, op.head_dim,
              op.v_head_dim, op.num_q_heads / op.num_kv_heads, program.width);
        }
        if constexpr (requires { op.weight; }) {
          if (!has_pages || forms.weights[op.weight] != WeightForm::kCanonical) return "";
          const program::WeightDecl& weight = program.weights[op.weight];
          if constexpr (requires { op.max_slots; }) {
            return expert_reason(program, weight, op.intermediate_size);
          } else if (const uint32_t chunks = dense_chunks<Op>(program); chunks > 0) {
            bool has_norm = false;
            if constexpr (requires { op.norm; }) has_norm = op.norm.weight != program::kNoId;
            return dense_reason(weight, chunks, has_norm);
          }
        }
        return "";
      },
      stage.operands);
}

}  // namespace ultraspeed::cuda
