// The expert products of steps of many tokens (ops/expert_w4a8_prefill.h), for experts that are
// chosen alike and for some that are chosen often. A set is the weights of all experts.
#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <utility>

#include "cuda/bench/expert_shape.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/synthetic.h"
#include "cuda/device.h"
#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/tile/mxfp4_page.h"
#include "program/operand_ids.h"
#include "program/route_table.h"

namespace ultraspeed::cuda {
namespace {

using program::RouteTable;
using tensor::WeightFormat;

constexpr uint32_t kChunkNeurons = kDownChunkColumns;  // of a K-chunk
constexpr double kSkew = 0.7;  // expert e is chosen in proportion to (e + 1)^-skew

// Which tokens choose each expert: each token chooses top_k different ones.
struct PrefillRouting {
  PrefillRouting(const ExpertShape& shape, uint32_t num_tokens, double skew)
      : tokens(shape.num_experts) {
    std::mt19937 random(num_tokens);
    std::uniform_real_distribution<double> uniform(1e-12, 1);
    std::vector<std::pair<double, uint32_t>> keys(shape.num_experts);
    const auto top_k = static_cast<std::ptrdiff_t>(shape.top_k);
    for (uint32_t token = 0; token < num_tokens; ++token) {
      for (uint32_t e = 0; e < shape.num_experts; ++e) {
        keys[e] = {std::log(-std::log(uniform(random))) + skew * std::log(e + 1.0), e};
      }
      std::partial_sort(keys.begin(), keys.begin() + top_k, keys.end());
      for (uint32_t i = 0; i < shape.top_k; ++i) tokens[keys[i].second].push_back(token);
    }
    for (const auto& of_expert : tokens) {
      num_live += of_expert.empty() ? 0 : 1;
      most = std::max(most, static_cast<uint32_t>(of_expert.size()));
    }
  }

  std::vector<uint32_t> words(uint32_t max_pairs) const {
    const auto max_slots = static_cast<uint32_t>(tokens.size());
    std::vector<uint32_t> words(RouteTable::words(max_slots, max_pairs), 0);
    RouteTable table = RouteTable::at(words.data(), max_slots, max_pairs);
    uint32_t pair = 0;
    for (uint32_t expert = 0; expert < max_slots; ++expert) {
      if (tokens[expert].empty()) continue;
      table.expert[*table.num_slots] = expert;
      table.pair_begin[(*table.num_slots)++] = pair;
      for (const uint32_t token : tokens[expert]) {
        table.pair_column[pair] = token;
        table.pair_weight[pair++] = 0.125F;
      }
    }
    table.pair_begin[*table.num_slots] = pair;
    return words;
  }

  std::vector<std::vector<uint32_t>> tokens;  // [expert], ascending
  uint32_t num_live = 0, most = 0;            // experts with tokens; tokens of one
};

std::string prefill_refusal(const ExpertShape& shape) {
  if (shape.format != WeightFormat::kMxfp4) {
    return fmt::format("the weights are {}; the kernels take MXFP4",
                       tensor::weight_format_name(shape.format));
  }
  if (shape.num_experts > kMaxPrefillSlots) {
    return fmt::format("the kernels take at most {} experts; these are {}", kMaxPrefillSlots,
                       shape.num_experts);
  }
  const uint32_t chunk = shape.intermediate * shape.num_ranks / program::kReductionChunks;
  if (shape.hidden % 2048 == 0 && chunk == kChunkNeurons) return "";
  return fmt::format(
      "the kernels take a multiple of 2048 columns, and K-chunks of {}; these are {}, in chunks of "
      "{}",
      kChunkNeurons, shape.hidden, chunk);
}

class PrefillGroup final : public KernelGroup {
 public:
  PrefillGroup(const ExpertShape& shape, uint32_t num_tokens, double skew, uint32_t rank)
      : shape_(shape),
        rank_(rank),
        num_pairs_(num_tokens * shape.top_k),
        routing_(shape, num_tokens, skew),
        gate_up_bytes_(2 * tensor::packed_bytes(shape.format, shape.hidden, shape.intermediate)),
        down_bytes_(gate_up_bytes_ / 2) {
    refusal = prefill_refusal(shape);
    const std::string sizes = fmt::format("{} tokens{}, {} live of", num_tokens,
                                          skew == 0 ? "" : ", skewed", routing_.num_live);
    const std::string gate_up = fmt::format("{} x {}", 2 * shape.intermediate, shape.hidden);
    const std::string down = fmt::format("{} x {}", shape.hidden, shape.intermediate);
    const uint64_t products = uint64_t{2} * shape.hidden * shape.intermediate * num_pairs_;
    const auto add = [&](const char* name, const std::string& of, uint64_t bytes, uint64_t flop) {
      kernels.push_back({.name = name,
                         .shape = fmt::format("{} {}", sizes, of),
                         .bytes = bytes * routing_.num_live,
                         .flop = flop,
                         .work = {},
                         .drain = {}});
    };
    add("prefill gate/up", gate_up, gate_up_bytes_, 2 * products);
    add("prefill down", down, down_bytes_, products);
    for (const char* name : {"prefill gate/up, down", "prefill, operands"}) {
      add(name, fmt::format("{}, {}", gate_up, down), gate_up_bytes_ + down_bytes_, 3 * products);
    }
    if (!refusal.empty()) return;
    num_sets = sets_to_rotate(down_bytes_ * routing_.num_live);
    launch_ = {.route = {},
               .tiles = {},
               .num_tokens = num_tokens,
               .num_columns = nullptr,
               .experts_per_token = shape.top_k,
               .max_pairs = num_pairs_,
               .hidden = shape.hidden,
               .intermediate = shape.intermediate,
               .num_ctas = 0,
               .work = ExpertPrefill::Work::kProducts};
    data = fmt::format("{} experts in {} sets, at most {} tokens each",
                       num_sets * shape.num_experts, num_sets, routing_.most);
    for (const uint64_t bytes : sizes_of_parts()) memory_bytes += bytes;
  }

  Status prepare(cudaStream_t stream) override {
    const auto bytes = sizes_of_parts();
    for (size_t i = 0; i < bytes.size(); ++i) {
      US_ASSIGN(memory_[i], DeviceMemory::allocate(bytes[i]));
    }
    US_ASSIGN(launch_.num_ctas, count_multiprocessors());
    launch_.route = RouteTable::at(memory_[kRoute].as<uint32_t>(), shape_.num_experts, num_pairs_);
    launch_.tiles = ExpertTiles::at(memory_[kTiles].as<uint32_t>(), shape_.num_experts, num_pairs_);
    const auto words = routing_.words(num_pairs_);
    US_TRY(cuda_status(
        cudaMemcpy(memory_[kRoute].data(), words.data(), bytes[kRoute], cudaMemcpyHostToDevice),
        "copying a route table"));
    US_TRY(cuda_status(fill(stream), "making synthetic weights"));
    using Work = ExpertPrefill::Work;
    using Launch = cudaError_t (PrefillGroup::*)(uint32_t, Work, cudaStream_t) const;
    constexpr Launch kLaunches[] = {&PrefillGroup::gate_up, &PrefillGroup::down,
                                    &PrefillGroup::both, &PrefillGroup::all};
    for (size_t i = 0; i < kernels.size(); ++i) {
      const auto run = [this, launch = kLaunches[i]](Work work) {
        return [this, launch, work](uint32_t node, cudaStream_t s) {
          return (this->*launch)(node, work, s);
        };
      };
      kernels[i].work = run(Work::kProducts);
      kernels[i].drain = run(Work::kDrain);
    }
    // So that each, measured alone, has the input of a step.
    US_TRY(cuda_status(all(0, Work::kProducts, stream), "running the experts"));
    return cuda_status(cudaStreamSynchronize(stream), "making synthetic weights");
  }

 private:
  enum Part : uint8_t {
    kGateUp,
    kDown,
    kRoute,
    kTiles,
    kRows,
    kCodes,
    kScales,
    kActivation,
    kProducts,
    kCounters,
    kPartials,
    kNumParts
  };

  // Bytes of each part of memory_.
  std::array<uint64_t, kNumParts> sizes_of_parts() const {
    const uint64_t experts = uint64_t{num_sets} * shape_.num_experts;
    const uint64_t elements = uint64_t{launch_.num_tokens} * shape_.hidden;
    std::array<uint64_t, kNumParts> bytes = {};
    bytes[kGateUp] = experts * gate_up_bytes_;
    bytes[kDown] = experts * down_bytes_;
    bytes[kRoute] = RouteTable::words(shape_.num_experts, num_pairs_) * sizeof(uint32_t);
    bytes[kTiles] =
        ExpertTiles::words(shape_.num_experts, num_pairs_, num_pairs_) * sizeof(uint32_t);
    bytes[kRows] = elements * sizeof(float);
    bytes[kCodes] = elements;
    bytes[kScales] = elements / 32;
    bytes[kActivation] = prefill_h_bytes(shape_.num_experts, num_pairs_, shape_.intermediate);
    bytes[kProducts] = prefill_product_bytes(launch_, prefill_section_groups(launch_));
    bytes[kCounters] = shape_.hidden / 128 * sizeof(SectionCounters);
    bytes[kPartials] = bytes[kRows] * program::kReductionChunks;
    return bytes;
  }

  cudaError_t fill(cudaStream_t stream) {
    cudaError_t error = fill_pages({.pages = memory_[kGateUp].data(),
                                    .size_bytes = memory_[kGateUp].size_bytes(),
                                    .page_bytes = GateUpPage::kBytes,
                                    .code_bytes = GateUpPage::kCodeBytes},
                                   stream);
    if (error != cudaSuccess) return error;
    error = fill_pages({.pages = memory_[kDown].data(),
                        .size_bytes = memory_[kDown].size_bytes(),
                        .page_bytes = DownPage::kBytes,
                        .code_bytes = DownPage::kCodeBytes},
                       stream);
    if (error != cudaSuccess) return error;
    return fill_values(memory_[kRows].as<float>(), uint64_t{launch_.num_tokens} * shape_.hidden,
                       stream);
  }

  PrefillInput input() const { return {memory_[kCodes].data(), memory_[kScales].data()}; }

  ExpertPrefill launch_of_work(ExpertPrefill::Work work) const {
    ExpertPrefill launch = launch_;
    launch.work = work;
    return launch;
  }

  cudaError_t gate_up(uint32_t node, ExpertPrefill::Work work, cudaStream_t stream) const {
    const uint64_t set_bytes = shape_.num_experts * gate_up_bytes_;
    return launch_prefill_gate_up(launch_of_work(work),
                                  {.weights = memory_[kGateUp].data() + node % num_sets * set_bytes,
                                   .input = input(),
                                   .output = memory_[kActivation].data()},
                                  stream);
  }

  cudaError_t down(uint32_t node, ExpertPrefill::Work work, cudaStream_t stream) const {
    const uint64_t set_bytes = shape_.num_experts * down_bytes_;
    return launch_prefill_down(launch_of_work(work),
                               {.weights = memory_[kDown].data() + node % num_sets * set_bytes,
                                .input = memory_[kActivation].data(),
                                .products = memory_[kProducts].as<float>(),
                                .counters = memory_[kCounters].as<SectionCounters>(),
                                .partials = memory_[kPartials].as<float>(),
                                .first_chunk = rank_ * (shape_.intermediate / kChunkNeurons),
                                .section_groups = prefill_section_groups(launch_)},
                               stream);
  }

  cudaError_t both(uint32_t node, ExpertPrefill::Work work, cudaStream_t stream) const {
    const cudaError_t error = gate_up(node, work, stream);
    return error == cudaSuccess ? down(node, work, stream) : error;
  }

  // Behind the launches that quantise the step's rows and cut it into tiles.
  cudaError_t all(uint32_t node, ExpertPrefill::Work work, cudaStream_t stream) const {
    cudaError_t error =
        launch_prefill_quantize(launch_, {.rows = memory_[kRows].as<float>()}, input(), stream);
    if (error != cudaSuccess) return error;
    error = launch_expert_tiles(launch_, stream);
    return error == cudaSuccess ? both(node, work, stream) : error;
  }

  ExpertShape shape_;
  uint32_t rank_;
  uint32_t num_pairs_;
  PrefillRouting routing_;
  uint64_t gate_up_bytes_, down_bytes_;  // of a matrix in memory
  ExpertPrefill launch_;
  std::array<DeviceMemory, kNumParts> memory_;
};

}  // namespace

KernelGroups find_expert_prefill(const program::Program& program,
                                 const KernelBenchOptions& options) {
  KernelGroups groups;
  for (const ExpertShape& shape : find_expert_shapes(program)) {
    for (const uint32_t tokens : options.prefill_tokens) {
      for (const double skew : {0.0, kSkew}) {
        groups.push_back(std::make_unique<PrefillGroup>(shape, tokens, skew, options.rank));
      }
    }
  }
  return groups;
}

}  // namespace ultraspeed::cuda
