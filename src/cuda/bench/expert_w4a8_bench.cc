// The expert products of decoding (ops/expert_w4a8.h): gate/up, down, and both as a step has them.
#include <algorithm>
#include <array>
#include <numeric>
#include <random>

#include "cuda/bench/expert_shape.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/route_words.h"
#include "cuda/bench/synthetic.h"
#include "cuda/device.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/dense_page.h"
#include "cuda/tile/mxfp4_page.h"
#include "program/operand_ids.h"
#include "program/route_table.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {
namespace {

using program::RouteTable;
using tensor::WeightFormat;

ExpertLaunch launch_of(const ExpertShape& shape, uint32_t width) {
  ExpertLaunch launch;
  launch.format = shape.format;
  launch.columns = width;
  launch.hidden = shape.hidden;
  launch.intermediate = shape.intermediate;
  launch.chunk_columns = shape.intermediate * shape.num_ranks / program::kReductionChunks;
  return launch;
}

std::string refusal_of(const ExpertShape& shape, uint32_t width) {
  if (shape.format != WeightFormat::kMxfp4 && shape.format != WeightFormat::kFp8Block128) {
    return fmt::format("the weights are {}; the kernels take MXFP4 and FP8",
                       tensor::weight_format_name(shape.format));
  }
  const ExpertLaunch launch = launch_of(shape, width);
  const char* limit = expert_limit(launch);
  if (limit == nullptr) return "";
  return fmt::format("{}; these are {} columns, {} and {}, in chunks of {}", limit, width,
                     shape.hidden, shape.intermediate, launch.chunk_columns);
}

class ExpertGroup final : public KernelGroup {
 public:
  ExpertGroup(const ExpertShape& shape, uint32_t width, const KernelBenchOptions& options)
      : shape_(shape), options_(options), launch_(launch_of(shape, width)) {
    const uint32_t live = options.live_experts;
    refusal = refusal_of(shape, width);
    const uint32_t columns = refusal.empty() ? padded() : shape.intermediate;
    const bool is_mxfp4 = shape.format == WeightFormat::kMxfp4 && refusal.empty();
    gate_up_bytes_ = tensor::packed_bytes(shape.format, 2 * shape.intermediate,
                                          is_mxfp4 ? gate_up_columns(shape.hidden) : shape.hidden);
    down_bytes_ = tensor::packed_bytes(
        shape.format, is_mxfp4 ? padded_down_rows(shape.hidden) : shape.hidden, columns);
    const std::string gate_up = fmt::format("{} x {}", 2 * shape.intermediate, shape.hidden);
    const std::string down = fmt::format("{} x {}", shape.hidden, shape.intermediate);
    const auto add = [&](const char* name, const std::string& sizes, uint64_t bytes) {
      kernels.push_back({.name = name,
                         .shape = fmt::format("{} live of {}", live, sizes),
                         .bytes = bytes * live,
                         .flop = 0,
                         .work = {},
                         .drain = {}});
    };
    add("expert gate/up", gate_up, gate_up_bytes_);
    add("expert down", down, down_bytes_);
    add("expert gate/up, down", gate_up + ", " + down, gate_up_bytes_ + down_bytes_);
    if (!refusal.empty()) return;
    num_sets = sets_to_rotate(std::min(gate_up_bytes_, down_bytes_) * live);
    num_pairs_ = std::max(live, shape.top_k * options.rows);
    data = fmt::format("{} experts in {} sets", num_sets * live, num_sets);
    for (const uint64_t bytes : sizes()) memory_bytes += bytes;
  }

  Status prepare(cudaStream_t stream) override {
    const auto bytes = sizes();
    for (size_t i = 0; i < bytes.size(); ++i) {
      US_ASSIGN(memory_[i], DeviceMemory::allocate(bytes[i]));
    }
    US_TRY(cuda_status(set_clusters(&launch_), "asking how many clusters run at once"));
    US_TRY(upload_routes());
    US_TRY(cuda_status(fill(stream), "making synthetic weights"));
    kernels[0].work = [this](uint32_t node, cudaStream_t s) { return gate_up(node, false, s); };
    kernels[0].drain = [this](uint32_t node, cudaStream_t s) { return gate_up(node, true, s); };
    kernels[1].work = [this](uint32_t node, cudaStream_t s) { return down(node, false, s); };
    kernels[1].drain = [this](uint32_t node, cudaStream_t s) { return down(node, true, s); };
    kernels[2].work = [this](uint32_t node, cudaStream_t s) { return both(node, false, s); };
    kernels[2].drain = [this](uint32_t node, cudaStream_t s) { return both(node, true, s); };
    // So that down measured alone has the activations of a step.
    US_TRY(cuda_status(gate_up(0, false, stream), "running expert gate/up"));
    return cuda_status(cudaStreamSynchronize(stream), "making synthetic weights");
  }

 private:
  enum Part : uint8_t {
    kGateUp,
    kDown,
    kRoutes,
    kNumColumns,
    kRows,
    kInput,
    kActivation,
    kPartials,
    kNumParts
  };

  // Bytes of each part of memory_.
  std::array<uint64_t, kNumParts> sizes() const {
    const uint64_t experts = uint64_t{num_sets} * options_.live_experts;
    std::array<uint64_t, kNumParts> bytes = {};
    bytes[kGateUp] = experts * gate_up_bytes_;
    bytes[kDown] = experts * down_bytes_;
    bytes[kRoutes] = num_sets * route_bytes();
    bytes[kNumColumns] = sizeof(uint32_t);
    bytes[kRows] = uint64_t{options_.rows} * shape_.hidden * sizeof(float);
    bytes[kInput] = expert_input_bytes(launch_);
    bytes[kActivation] = expert_activation_bytes(launch_, options_.live_experts);
    bytes[kPartials] = bytes[kRows] * program::kReductionChunks;
    return bytes;
  }

  // Columns of down in its pages.
  uint32_t padded() const {
    return padded_down_columns(shape_.intermediate, launch_.chunk_columns);
  }

  uint64_t route_bytes() const {
    return RouteTable::words(options_.live_experts, num_pairs_) * sizeof(uint32_t);
  }

  Status upload_routes() {
    const uint32_t live = options_.live_experts;
    std::vector<uint32_t> experts(uint64_t{num_sets} * live);
    std::iota(experts.begin(), experts.end(), 0);
    std::shuffle(experts.begin(), experts.end(), std::mt19937(7));
    for (uint32_t i = 0; i < num_sets; ++i) {
      const auto begin = experts.begin() + i * live;
      const auto words =
          route_words({begin, begin + live}, {options_.rows, num_pairs_, live, num_pairs_});
      US_TRY(cuda_status(cudaMemcpy(memory_[kRoutes].data() + i * route_bytes(), words.data(),
                                    route_bytes(), cudaMemcpyHostToDevice),
                         "copying route tables"));
    }
    return {};
  }

  // Of random weights; page_bytes and code_bytes are those of MXFP4.
  PageFill fill_of(Part part, uint64_t page_bytes, uint64_t code_bytes) const {
    PageFill fill = {memory_[part].data(), memory_[part].size_bytes(), page_bytes, code_bytes};
    if (shape_.format != WeightFormat::kFp8Block128) return fill;
    fill.page_bytes = Fp8Page::kBytes;
    fill.code_bytes = Fp8Page::kCodeBytes;
    fill.codes = WordKind::kE4m3;
    fill.scales = WordKind::kF32Unit;
    return fill;
  }

  cudaError_t fill(cudaStream_t stream) {
    cudaError_t error =
        fill_pages(fill_of(kGateUp, GateUpPage::kBytes, GateUpPage::kCodeBytes), stream);
    if (error != cudaSuccess) return error;
    error = fill_pages(fill_of(kDown, DownPage::kBytes, DownPage::kCodeBytes), stream);
    if (error != cudaSuccess) return error;
    error =
        fill_values(memory_[kRows].as<float>(), uint64_t{options_.rows} * shape_.hidden, stream);
    if (error != cudaSuccess) return error;
    error = cudaMemcpyAsync(memory_[kNumColumns].data(), &options_.rows, sizeof(options_.rows),
                            cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return error;
    // The pages of chunks that are filled up read zeros.
    error =
        cudaMemsetAsync(memory_[kActivation].data(), 0, memory_[kActivation].size_bytes(), stream);
    if (error != cudaSuccess) return error;
    return launch_quantize(
        launch(0, false), {memory_[kRows].as<float>(), nullptr, 0, memory_[kInput].data()}, stream);
  }

  ExpertLaunch launch(uint32_t node, bool is_drain) const {
    ExpertLaunch launch = launch_;
    auto* words =
        reinterpret_cast<uint32_t*>(memory_[kRoutes].data() + node % num_sets * route_bytes());
    launch.route = RouteTable::at(words, options_.live_experts, num_pairs_);
    launch.num_columns = memory_[kNumColumns].as<const uint32_t>();
    launch.work = is_drain ? ExpertLaunch::Work::kDrain : ExpertLaunch::Work::kProducts;
    return launch;
  }

  cudaError_t gate_up(uint32_t node, bool is_drain, cudaStream_t stream) const {
    return launch_expert_gate_up(
        launch(node, is_drain),
        {memory_[kGateUp].data(), memory_[kInput].data(), memory_[kActivation].data(), nullptr},
        stream);
  }

  cudaError_t down(uint32_t node, bool is_drain, cudaStream_t stream) const {
    const uint32_t chunks = shape_.intermediate / launch_.chunk_columns;
    return launch_expert_down(launch(node, is_drain),
                              {memory_[kDown].data(), memory_[kActivation].data(),
                               memory_[kPartials].as<float>(), options_.rank * chunks},
                              stream);
  }

  cudaError_t both(uint32_t node, bool is_drain, cudaStream_t stream) const {
    const cudaError_t error = gate_up(node, is_drain, stream);
    return error == cudaSuccess ? down(node, is_drain, stream) : error;
  }

  ExpertShape shape_;
  KernelBenchOptions options_;
  ExpertLaunch launch_;
  uint64_t gate_up_bytes_ = 0, down_bytes_ = 0;  // of a matrix in memory
  uint32_t num_pairs_ = 0;
  std::array<DeviceMemory, kNumParts> memory_;
};

}  // namespace

KernelGroups find_expert_w4a8(const program::Program& program, const KernelBenchOptions& options) {
  KernelGroups groups;
  for (const ExpertShape& shape : find_expert_shapes(program)) {
    groups.push_back(std::make_unique<ExpertGroup>(shape, program.width, options));
  }
  return groups;
}

}  // namespace ultraspeed::cuda
