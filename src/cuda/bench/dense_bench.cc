// The dense products of a step (ops/dense.h): alone, and behind the launch that makes their
// operand.
#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <variant>

#include "base/check.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/synthetic.h"
#include "cuda/device.h"
#include "cuda/ops/dense.h"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/dense_page.h"
#include "cuda/tile/pack_dense.h"
#include "cuda/weight_form.h"
#include "program/operand_ids.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;

constexpr float kDenseEpsilon = 1e-5F;

// What becomes of the sums.
enum class DenseOutput : uint8_t { kQkv, kPartials, kSwiglu, kStore };

struct DenseShape {
  std::string name;  // of the weight, without its layer
  DenseOutput output = DenseOutput::kStore;
  DenseMatrix matrix;
  bool is_f32 = false;  // in the program; pages hold BF16 then, which checkpoints store
  bool has_norm = false;
  QkvShape heads;       // kQkv
  std::string refusal;  // what is not of the matrix

  bool is_like(const DenseShape& other) const {
    return name == other.name && output == other.output && is_f32 == other.is_f32 &&
           matrix.format == other.matrix.format && matrix.rows == other.matrix.rows &&
           matrix.columns == other.matrix.columns && matrix.num_chunks == other.matrix.num_chunks &&
           heads.num_q_heads == other.heads.num_q_heads;
  }
};

DenseShape dense_shape(const program::Program& program, program::WeightId id) {
  const program::WeightDecl& weight = program.weights[id];
  DenseShape shape;
  shape.name = weight.name.substr(weight.name.rfind('.') + 1);
  shape.is_f32 = weight.format == WeightFormat::kF32;
  shape.matrix = {shape.is_f32 ? WeightFormat::kBf16 : weight.format, weight.rows, weight.cols, 1};
  return shape;
}

std::optional<DenseShape> shape_of_stage(const program::Program& program,
                                         const program::Operands& operands) {
  if (const auto* op = std::get_if<program::QkvProjOperands>(&operands)) {
    DenseShape shape = dense_shape(program, op->weight);
    shape.output = DenseOutput::kQkv;
    shape.has_norm = op->norm.weight != program::kNoId;
    shape.heads = {op->num_q_heads, op->num_kv_heads, op->head_dim, op->v_head_dim, op->rotary_dim};
    if (op->q_norm.weight != program::kNoId) shape.refusal = "the kernels normalise no heads";
    return shape;
  }
  if (const auto* op = std::get_if<program::OutProjOperands>(&operands)) {
    DenseShape shape = dense_shape(program, op->weight);
    shape.output = DenseOutput::kPartials;
    shape.matrix.num_chunks = rank_chunks(program);
    return shape;
  }
  if (const auto* op = std::get_if<program::GateUpOperands>(&operands)) {
    DenseShape shape = dense_shape(program, op->weight);
    shape.output = DenseOutput::kSwiglu;
    shape.has_norm = op->norm.weight != program::kNoId;
    return shape;
  }
  if (const auto* op = std::get_if<program::LinearOperands>(&operands)) {
    DenseShape shape = dense_shape(program, op->weight);
    shape.has_norm = op->norm.weight != program::kNoId;
    if (op->more_inputs[0] != program::kNoId) shape.refusal = "the kernels take one input";
    return shape;
  }
  return std::nullopt;
}

std::string dense_refusal(const DenseShape& shape, uint32_t width) {
  if (!shape.refusal.empty()) return shape.refusal;
  if (width != 8 && width != 16 && width != 32 && width != 64) {
    return fmt::format("the kernels have widths of 8, 16, 32 and 64 columns; these are {}", width);
  }
  const Status status = check_dense(shape.matrix);
  if (!status) return status.error().message;
  const char* limit = dense_input_limit(shape.matrix.columns, shape.has_norm);
  if (limit == nullptr) return "";
  return fmt::format("the kernels do not take {}; these are {}", limit, shape.matrix.columns);
}

class DenseGroup final : public KernelGroup {
 public:
  DenseGroup(DenseShape shape, uint32_t width, const KernelBenchOptions& options)
      : shape_(std::move(shape)), width_(width), options_(options) {
    const DenseMatrix& matrix = shape_.matrix;
    refusal = dense_refusal(shape_, width);
    if (refusal.empty()) weight_bytes_ = dense_page_bytes(matrix);
    const std::string sizes = fmt::format("{} x {} {}{}", matrix.rows, matrix.columns,
                                          matrix.format == WeightFormat::kBf16 ? "BF16" : "FP8",
                                          shape_.is_f32 ? ", F32 in the program" : "");
    for (const char* what : {"", ", operand"}) {
      kernels.push_back({.name = shape_.name + what,
                         .shape = sizes,
                         .bytes = weight_bytes_,
                         .flop = 0,
                         .work = {},
                         .drain = {}});
    }
    if (!refusal.empty()) return;
    num_sets = sets_to_rotate(weight_bytes_);
    data = fmt::format("{} matrices of {}", num_sets, shape_.name);
    for (const uint64_t bytes : sizes_of_parts()) memory_bytes += bytes;
  }

  Status prepare(cudaStream_t stream) override {
    const auto bytes = sizes_of_parts();
    for (size_t i = 0; i < bytes.size(); ++i) {
      US_ASSIGN(memory_[i], DeviceMemory::allocate(std::max<uint64_t>(bytes[i], 16)));
    }
    US_TRY(upload());
    US_TRY(cuda_status(fill(stream), "making synthetic weights"));
    launch_.format = shape_.matrix.format;
    launch_.columns = width_;
    launch_.num_columns = num_columns();
    launch_.rows = shape_.matrix.rows;
    launch_.k = shape_.matrix.columns;
    launch_.num_chunks = shape_.matrix.num_chunks;
    launch_.operand = memory_[kOperand].data();
    US_TRY(cuda_status(set_clusters(&launch_), "asking how many clusters run at once"));
    using Work = DenseLaunch::Work;
    const auto alone = [this](Work work) {
      return [this, work](uint32_t node, cudaStream_t s) { return product(node, work, s); };
    };
    const auto behind = [this](Work work) {
      return [this, work](uint32_t node, cudaStream_t s) {
        const cudaError_t error = operand(s);
        return error == cudaSuccess ? product(node, work, s) : error;
      };
    };
    kernels[0].work = alone(Work::kProducts);
    kernels[0].drain = alone(Work::kDrain);
    kernels[1].work = behind(Work::kProducts);
    kernels[1].drain = behind(Work::kDrain);
    US_TRY(cuda_status(operand(stream), "making an operand"));
    return cuda_status(cudaStreamSynchronize(stream), "making synthetic weights");
  }

 private:
  enum Part : uint8_t {
    kWeights,
    kRows,
    kNorm,
    kOperand,
    kOutput,
    kKeys,
    kValues,
    kCacheRows,
    kRotations,
    kNumParts
  };

  // Bytes of each part of memory_.
  std::array<uint64_t, kNumParts> sizes_of_parts() const {
    const DenseMatrix& matrix = shape_.matrix;
    const QkvShape& heads = shape_.heads;
    std::array<uint64_t, kNumParts> bytes = {};
    bytes[kWeights] = num_sets * weight_bytes_;
    bytes[kRows] = uint64_t{width_} * matrix.columns * sizeof(float);
    bytes[kNorm] = uint64_t{matrix.columns} * sizeof(float);
    bytes[kOperand] = dense_operand_bytes(matrix.format, width_, matrix.columns, matrix.num_chunks);
    bytes[kOutput] = uint64_t{width_} * matrix.rows * sizeof(float) *
                     (shape_.output == DenseOutput::kPartials ? program::kReductionChunks : 1);
    bytes[kKeys] = uint64_t{width_} * heads.num_kv_heads * heads.head_dim * sizeof(float);
    bytes[kValues] = uint64_t{width_} * heads.num_kv_heads * heads.v_head_dim * sizeof(float);
    bytes[kCacheRows] = uint64_t{width_ + 1} * sizeof(uint32_t);
    bytes[kRotations] = uint64_t{width_} * heads.rotary_dim / 2 * sizeof(float2);
    return bytes;
  }

  // Device: how many columns carry tokens, one of the cache rows 0, 1, .., width.
  const uint32_t* num_columns() const {
    return memory_[kCacheRows].as<const uint32_t>() + options_.rows;
  }

  // Cache rows and rotations, all alike.
  Status upload() {
    std::vector<uint32_t> rows(width_ + 1);
    std::iota(rows.begin(), rows.end(), 0);
    US_TRY(cuda_status(cudaMemcpy(memory_[kCacheRows].data(), rows.data(),
                                  rows.size() * sizeof(uint32_t), cudaMemcpyHostToDevice),
                       "copying cache rows"));
    const std::vector<float2> turns(uint64_t{width_} * shape_.heads.rotary_dim / 2,
                                    float2{0.6F, 0.8F});
    return cuda_status(cudaMemcpy(memory_[kRotations].data(), turns.data(),
                                  turns.size() * sizeof(float2), cudaMemcpyHostToDevice),
                       "copying rotations");
  }

  cudaError_t fill(cudaStream_t stream) {
    const DenseMatrix& matrix = shape_.matrix;
    PageFill weights = {.pages = memory_[kWeights].data(),
                        .size_bytes = memory_[kWeights].size_bytes(),
                        .page_bytes = Fp8Page::kBytes,
                        .code_bytes = Fp8Page::kCodeBytes,
                        .codes = WordKind::kE4m3,
                        .scales = WordKind::kF32Unit};
    if (matrix.format == WeightFormat::kBf16) {
      weights.page_bytes = Bf16Page::kBytes;
      weights.code_bytes = Bf16Page::kBytes;
      weights.codes = WordKind::kBf16;
    }
    cudaError_t error = fill_pages(weights, stream);
    if (error != cudaSuccess) return error;
    error = fill_values(memory_[kRows].as<float>(), uint64_t{width_} * matrix.columns, stream);
    if (error != cudaSuccess) return error;
    return fill_values(memory_[kNorm].as<float>(), matrix.columns, stream);
  }

  cudaError_t operand(cudaStream_t stream) const {
    DensePrepare prepare;
    prepare.format = shape_.matrix.format;
    prepare.columns = width_;
    prepare.num_columns = num_columns();
    prepare.k = shape_.matrix.columns;
    prepare.num_chunks = shape_.matrix.num_chunks;
    prepare.rows = memory_[kRows].as<float>();
    if (shape_.has_norm) prepare.norm_weight = memory_[kNorm].as<float>();
    prepare.epsilon = kDenseEpsilon;
    prepare.operand = memory_[kOperand].data();
    return launch_dense_prepare(prepare, stream);
  }

  cudaError_t product(uint32_t node, DenseLaunch::Work work, cudaStream_t stream) const {
    DenseLaunch launch = launch_;
    launch.weights = memory_[kWeights].data() + node % num_sets * weight_bytes_;
    launch.work = work;
    auto* output = memory_[kOutput].as<float>();
    switch (shape_.output) {
      case DenseOutput::kQkv:
        return launch_dense(launch, qkv(output), stream);
      case DenseOutput::kPartials:
        return launch_dense(launch, DensePartials{output, options_.rank * shape_.matrix.num_chunks},
                            stream);
      case DenseOutput::kSwiglu:
        return launch_dense(launch, DenseSwiglu{output}, stream);
      case DenseOutput::kStore:
        return launch_dense(launch, DenseStore{output, launch.rows, 0, {}}, stream);
    }
    return cudaErrorInvalidValue;
  }

  DenseQkv qkv(float* query) const {
    return {.num_q_heads = shape_.heads.num_q_heads,
            .num_kv_heads = shape_.heads.num_kv_heads,
            .head_dim = shape_.heads.head_dim,
            .v_head_dim = shape_.heads.v_head_dim,
            .rotary_dim = shape_.heads.rotary_dim,
            .value_scale = 1,
            .rotations = memory_[kRotations].as<float2>(),
            .cache_rows = memory_[kCacheRows].as<uint32_t>(),
            .query = query,
            .keys = memory_[kKeys].as<float>(),
            .values = memory_[kValues].as<float>(),
            .key_stride = shape_.heads.num_kv_heads * shape_.heads.head_dim,
            .value_stride = shape_.heads.num_kv_heads * shape_.heads.v_head_dim};
  }

  DenseShape shape_;
  uint32_t width_;
  KernelBenchOptions options_;
  DenseLaunch launch_;         // without weights
  uint64_t weight_bytes_ = 0;  // of a matrix in memory
  std::array<DeviceMemory, kNumParts> memory_;
};

}  // namespace

KernelGroups find_dense(const program::Program& program, const KernelBenchOptions& options) {
  std::vector<DenseShape> shapes;
  for (const program::Stage& stage : program.stages) {
    const auto shape = shape_of_stage(program, stage.operands);
    if (!shape) continue;
    const auto is_same = [&](const DenseShape& other) { return other.is_like(*shape); };
    if (std::ranges::none_of(shapes, is_same)) shapes.push_back(*shape);
  }
  KernelGroups groups;
  for (DenseShape& shape : shapes) {
    groups.push_back(std::make_unique<DenseGroup>(std::move(shape), program.width, options));
  }
  return groups;
}

}  // namespace ultraspeed::cuda
