#include "cuda/bench/weight_rotation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <tuple>
#include <variant>

#include "base/check.h"
#include "base/progress.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/synthetic.h"
#include "cuda/tile/dense_page.h"
#include "cuda/tile/mxfp4_page.h"

namespace ultraspeed::cuda {
namespace {

using program::Program;
using program::WeightId;
using tensor::WeightFormat;

using Kind = std::tuple<WeightFormat, uint32_t, uint32_t, uint32_t, WeightForm>;

Kind kind_of(const program::WeightDecl& decl, WeightForm form) {
  return {decl.format, decl.rows, decl.cols, decl.count, form};
}

// Sets of experts: each serves experts / live layers, and all kinds take the same turns.
uint32_t count_expert_sets(const Program& program, std::span<const WeightForm> forms,
                           uint32_t live_experts, uint32_t* num_experts) {
  uint64_t least_bytes = std::numeric_limits<uint64_t>::max();
  for (WeightId id = 0; id < program.weights.size(); ++id) {
    const uint32_t count = program.weights[id].count;
    if (count == 1) continue;
    if (program.weights[id].cols == 1) continue;  // biases, for which no cache's size matters
    US_CHECK(*num_experts == 0 || *num_experts == count, "layers of {} and of {} experts",
             *num_experts, count);
    *num_experts = count;
    least_bytes = std::min(least_bytes, live_experts * form_bytes(program, id, forms[id]));
  }
  if (*num_experts == 0) return 0;
  US_CHECK(live_experts >= 1 && live_experts <= *num_experts, "{} live experts of {}", live_experts,
           *num_experts);
  const uint32_t layers_a_set = *num_experts / live_experts;
  return (sets_to_rotate(least_bytes) + layers_a_set - 1) / layers_a_set;
}

template <class Op, class IsOf>
bool has_stage(const Program& program, const IsOf& is_of) {
  return std::ranges::any_of(program.stages, [&](const program::Stage& stage) {
    const auto* op = std::get_if<Op>(&stage.operands);
    return op != nullptr && is_of(*op);
  });
}

// Routers would choose the same experts for all rows if what layers add to a row drowned its token,
// if scores were all near 0 or 1, or if their biases differed more than they do.
void spread_routes(const Program& program, WeightId id, PageFill* fill) {
  const bool is_table = has_stage<program::EmbedOperands>(
      program, [&](const auto& embed) { return embed.table == id; });
  const bool is_bias = has_stage<program::RouteOperands>(
      program, [&](const auto& route) { return route.bias == id; });
  const bool is_router = fill->codes == WordKind::kF32 && program.weights[id].rows > 1;
  if (is_table && fill->codes == WordKind::kBf16) fill->codes = WordKind::kLargeBf16;
  if (is_bias || is_router) fill->codes = fill->scales = WordKind::kSmallF32;
}

PageFill fill_of(const program::WeightDecl& decl, WeightForm form, uint64_t matrix_bytes) {
  PageFill fill;
  fill.size_bytes = decl.count * matrix_bytes;
  fill.page_bytes = matrix_bytes;
  fill.code_bytes = tensor::code_bytes(decl.format, decl.rows, decl.cols);
  switch (form) {
    case WeightForm::kGateUpPages:
      fill.page_bytes = GateUpPage::kBytes;
      fill.code_bytes = GateUpPage::kCodeBytes;
      break;
    case WeightForm::kDownPages:
      fill.page_bytes = DownPage::kBytes;
      fill.code_bytes = DownPage::kCodeBytes;
      break;
    case WeightForm::kFp8GateUpPages:
    case WeightForm::kFp8DownPages:
    case WeightForm::kDensePages:
    case WeightForm::kDensePartialPages:
    case WeightForm::kDenseGateUpPages:
    case WeightForm::kDenseQkvPages: {
      const bool is_fp8 = decl.format == WeightFormat::kFp8Block128;
      fill.page_bytes = is_fp8 ? Fp8Page::kBytes : Bf16Page::kBytes;
      fill.code_bytes = DensePage::kCodeBytes;
      break;
    }
    case WeightForm::kCanonical:
      break;
  }
  switch (decl.format) {
    case WeightFormat::kMxfp4:
      break;
    case WeightFormat::kFp8Block128:
      fill.codes = WordKind::kE4m3;
      fill.scales = WordKind::kF32Unit;
      break;
    case WeightFormat::kBf16:
      fill.codes = fill.scales = WordKind::kBf16;
      break;
    case WeightFormat::kF32:
      fill.codes = fill.scales = WordKind::kF32;
      break;
  }
  return fill;
}

}  // namespace

WeightRotation rotate_weights(const Program& program, std::span<const WeightForm> forms,
                              uint32_t live_experts, bool is_whole) {
  WeightRotation rotation;
  rotation.live_experts = live_experts;
  rotation.is_whole = is_whole;
  rotation.num_expert_sets =
      count_expert_sets(program, forms, live_experts, &rotation.experts_in_a_set);
  std::map<Kind, std::vector<uint64_t>> sets;  // where each begins
  std::map<Kind, uint32_t> seen;
  for (WeightId id = 0; id < program.weights.size(); ++id) {
    const program::WeightDecl& decl = program.weights[id];
    const uint64_t matrix_bytes = form_bytes(program, id, forms[id]);
    const uint32_t num_sets = is_whole         ? ~0u
                              : decl.count > 1 ? rotation.num_expert_sets
                                               : sets_to_rotate(matrix_bytes);
    const Kind kind = kind_of(decl, forms[id]);
    const uint32_t index = seen[kind]++;
    std::vector<uint64_t>& begins = sets[kind];
    if (begins.size() < num_sets) {
      begins.push_back(rotation.places.size_bytes);
      rotation.places.size_bytes += decl.count * matrix_bytes;
    }
    rotation.index.push_back(index);
    rotation.places.offsets.push_back(begins[index % begins.size()]);
    rotation.whole_bytes += decl.count * matrix_bytes;
  }
  return rotation;
}

std::vector<uint32_t> WeightRotation::live(WeightId id) const {
  const uint32_t set = index[id] % num_expert_sets;
  const uint32_t turn = index[id] / num_expert_sets;
  std::vector<uint32_t> experts(experts_in_a_set);
  std::iota(experts.begin(), experts.end(), 0);
  std::shuffle(experts.begin(), experts.end(), std::mt19937(7 + set));
  const uint32_t layers_a_set = experts_in_a_set / live_experts;
  const auto begin = experts.begin() + turn % layers_a_set * live_experts;
  return {begin, begin + live_experts};
}

std::string WeightRotation::text() const {
  std::string text =
      fmt::format("{} of weights in {}", format_bytes(static_cast<double>(whole_bytes)),
                  format_bytes(static_cast<double>(places.size_bytes)));
  if (num_expert_sets > 0 && !is_whole) {
    text += fmt::format(": layers share {} set{} of {} experts", num_expert_sets,
                        num_expert_sets == 1 ? "" : "s", experts_in_a_set);
  }
  return text;
}

Status SyntheticWeights::begin_rank(std::span<const Program> programs, uint32_t, bool) {
  programs_ = programs;
  return {};
}

Status SyntheticWeights::fill(WeightId id, WeightForm form, std::byte* memory) {
  const program::WeightDecl& decl = programs_[0].weights[id];
  PageFill fill = fill_of(decl, form, form_bytes(programs_[0], id, form));
  fill.pages = memory;
  fill.seed = id;
  spread_routes(programs_[0], id, &fill);
  return cuda_status(fill_pages(fill, nullptr), fmt::format("making synthetic {}", decl.name));
}

program::KvScaleTable SyntheticWeights::kv_scales() const {
  // Bytes that are 1.5 as e4m3, 0.0115 as bf16 and as the scale of e4m3, and 0.75 as the f32 of a
  // norm: keys and values near 1.
  constexpr std::byte kMatrix{0x3c}, kVector{0x3f};
  program::KvScaleBuilder builder(programs_);
  std::vector<std::byte> packed;
  for (WeightId id = 0; id < programs_[0].weights.size(); ++id) {
    const program::WeightDecl& decl = programs_[0].weights[id];
    packed.assign(decl.matrix_bytes(), decl.rows == 1 ? kVector : kMatrix);
    builder.take(id, packed);
  }
  return builder.finish();
}

}  // namespace ultraspeed::cuda
