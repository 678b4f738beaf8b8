// Attention of a step of one sequence (ops/flash_attention.h): full attention, its positions cut in
// chunks of several sizes, and attention with a window, also where launches may start early. A set
// is a sequence: pages or a ring of its own.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <variant>

#include "cuda/bench/kernel_group.h"
#include "cuda/bench/synthetic.h"
#include "cuda/device.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/tile/kv_tile.h"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kChunkSizes[] = {256, 512, 1024};
constexpr KvScales kHalf = {0.5F, 0.5F};

// A layer's attention, as one rank has it.
struct AttentionShape {
  uint32_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0, v_head_dim = 0;
  uint32_t window = 0;          // 0: full attention
  uint32_t ring_positions = 0;  // with a window
  bool has_sink = false;

  bool operator==(const AttentionShape&) const = default;
};

std::string attention_refusal(const AttentionShape& shape) {
  if (!has_flash_heads(shape.num_q_heads, shape.num_kv_heads, shape.head_dim, shape.v_head_dim)) {
    return fmt::format(
        "the kernels take heads of a multiple of 8 of at most {} and {} dimensions, at most {} "
        "query heads a KV head; these have {} and {}, and are {} and {}",
        kFlashHeadDim, kFlashValueDim, kMaxFlashGroup, shape.head_dim, shape.v_head_dim,
        shape.num_q_heads, shape.num_kv_heads);
  }
  if (shape.ring_positions % kKvTilePositions != 0) {
    return fmt::format("the kernels take rings of a multiple of {} positions; these have {}",
                       kKvTilePositions, shape.ring_positions);
  }
  return "";
}

class AttentionGroup final : public KernelGroup {
 public:
  AttentionGroup(const AttentionShape& shape, KvFormat format, uint32_t positions, uint32_t rows)
      : shape_(shape), format_(format), rows_(rows) {
    refusal = attention_refusal(shape);
    // A window's tiles, wherever in a ring, lie alike for all sequences.
    first_ = shape.window == 0 ? positions - rows : 2 * shape.window + 40;
    const uint32_t end = first_ + rows_;
    const uint32_t first_seen = shape.window == 0 ? 0 : first_ + 1 - shape.window;
    const uint32_t tiles = (end - 1) / kKvTilePositions - first_seen / kKvTilePositions + 1;
    tile_bytes_ = uint64_t{kv_tile_bytes(format)} * shape.num_kv_heads;
    num_pages_ = shape.window == 0 ? tiles : shape.ring_positions / kKvTilePositions;
    const std::string sizes =
        fmt::format("{} q, {} kv heads, {} positions, {}", shape.num_q_heads, shape.num_kv_heads,
                    end - first_seen, format == KvFormat::kE4m3 ? "FP8" : "BF16");
    const auto add = [&](std::string name) {
      kernels.push_back({.name = std::move(name),
                         .shape = sizes,
                         .bytes = tiles * tile_bytes_,
                         .flop = 0,
                         .work = {},
                         .drain = {}});
    };
    if (shape.window == 0) {
      for (const uint32_t chunk : kChunkSizes) add(fmt::format("attention, chunks of {}", chunk));
    } else {
      add(fmt::format("attention, window of {}", shape.window));
      add(fmt::format("attention, window of {}, early", shape.window));
    }
    if (!refusal.empty()) return;
    num_sets = sets_to_rotate(tiles * tile_bytes_);
    data = fmt::format("{} sequences of {} tiles of {}", num_sets, num_pages_,
                       format == KvFormat::kE4m3 ? "FP8" : "BF16");
    for (const uint64_t bytes : sizes_of_parts()) memory_bytes += bytes;
  }

  Status prepare(cudaStream_t stream) override {
    const auto bytes = sizes_of_parts();
    for (size_t i = 0; i < bytes.size(); ++i) {
      US_ASSIGN(memory_[i], DeviceMemory::allocate(bytes[i]));
    }
    US_ASSIGN(num_ctas_, count_multiprocessors());
    US_TRY(upload_steps());
    US_TRY(upload(kSinks, std::vector<float>(shape_.num_q_heads, 0.5F)));
    US_TRY(upload(kScales, std::vector<KvScales>(shape_.num_kv_heads, kHalf)));
    US_TRY(cuda_status(fill(stream), "making synthetic keys and values"));
    using Work = FlashAttention::Work;
    for (size_t i = 0; i < kernels.size(); ++i) {
      FlashAttention launch = common();
      if (shape_.window == 0) launch.chunk_positions = kChunkSizes[i];
      launch.follows_grid = shape_.window != 0 && i == 1;
      const auto attend = [this, launch](Work work) {
        return [this, launch, work](uint32_t node, cudaStream_t s) {
          FlashAttention of_node = launch;
          of_node.step = memory_[kViews].as<const StepView>() + node % num_sets;
          of_node.work = work;
          return launch_flash_attention(of_node, s);
        };
      };
      kernels[i].work = attend(Work::kAttention);
      kernels[i].drain = attend(Work::kDrain);
    }
    return cuda_status(cudaStreamSynchronize(stream), "making synthetic keys and values");
  }

 private:
  enum Part : uint8_t {
    kTiles,
    kViews,
    kColumns,
    kPages,
    kQueries,
    kQueryOperands,
    kQueryScales,
    kRows,
    kSinks,
    kScales,
    kOutput,
    kSums,
    kStates,
    kArrivals,
    kNumParts
  };

  // Of the step's own keys and values.
  uint64_t row_floats() const {
    return uint64_t{rows_} * shape_.num_kv_heads * (shape_.head_dim + shape_.v_head_dim);
  }

  // Bytes of each part of memory_.
  std::array<uint64_t, kNumParts> sizes_of_parts() const {
    const uint64_t heads = uint64_t{rows_} * shape_.num_q_heads;
    const uint64_t units =
        flash_units(rows_, shape_.window == 0 ? first_ + rows_ : 1,
                    shape_.num_q_heads / shape_.num_kv_heads, shape_.num_kv_heads, kChunkSizes[0]);
    std::array<uint64_t, kNumParts> bytes = {};
    bytes[kTiles] = uint64_t{num_sets} * num_pages_ * tile_bytes_;
    bytes[kViews] = num_sets * sizeof(StepView);
    bytes[kColumns] = uint64_t{num_sets} * rows_ * sizeof(StepColumn);
    bytes[kPages] = uint64_t{num_sets} * num_pages_ * sizeof(uint32_t);
    bytes[kQueries] = heads * shape_.head_dim * sizeof(float);
    bytes[kQueryOperands] =
        query_operand_bytes(format_, rows_, shape_.num_q_heads, shape_.num_kv_heads);
    bytes[kQueryScales] = heads * sizeof(float);
    bytes[kRows] = row_floats() * sizeof(float);
    bytes[kSinks] = shape_.num_q_heads * sizeof(float);
    bytes[kScales] = shape_.num_kv_heads * sizeof(KvScales);
    bytes[kOutput] = heads * shape_.v_head_dim * sizeof(float);
    bytes[kSums] = units * kFlashRows * kFlashValueDim * sizeof(float);
    bytes[kStates] = units * kFlashRows * sizeof(float2);
    bytes[kArrivals] = 2 * sizeof(uint32_t);
    return bytes;
  }

  template <class T>
  Status upload(Part part, const std::vector<T>& values) {
    return cuda_status(cudaMemcpy(memory_[part].data(), values.data(), values.size() * sizeof(T),
                                  cudaMemcpyHostToDevice),
                       "copying a step");
  }

  // A step of each sequence; pages lie in random order.
  Status upload_steps() {
    std::vector<StepView> views(num_sets);
    std::vector<StepColumn> columns(uint64_t{num_sets} * rows_);
    std::vector<uint32_t> pages(uint64_t{num_sets} * num_pages_);
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(7));
    for (uint32_t i = 0; i < num_sets; ++i) {
      views[i].num_columns = rows_;
      views[i].columns = memory_[kColumns].as<const StepColumn>() + uint64_t{i} * rows_;
      views[i].pages = memory_[kPages].as<const uint32_t>() + uint64_t{i} * num_pages_;
      for (uint32_t c = 0; c < rows_; ++c) {
        StepColumn& column = columns[uint64_t{i} * rows_ + c];
        column.position = first_ + c;
        column.sequence = i;
        column.end_column = rows_;
      }
    }
    US_TRY(upload(kViews, views));
    US_TRY(upload(kColumns, columns));
    return upload(kPages, pages);
  }

  cudaError_t fill(cudaStream_t stream) {
    cudaError_t error =
        fill_pages({.pages = memory_[kTiles].data(),
                    .size_bytes = memory_[kTiles].size_bytes(),
                    .page_bytes = kv_tile_bytes(format_),
                    .code_bytes = kv_tile_bytes(format_),
                    .codes = format_ == KvFormat::kE4m3 ? WordKind::kE4m3 : WordKind::kBf16},
                   stream);
    if (error != cudaSuccess) return error;
    error = cudaMemsetAsync(memory_[kArrivals].data(), 0, memory_[kArrivals].size_bytes(), stream);
    if (error != cudaSuccess) return error;
    error = fill_values(memory_[kQueries].as<float>(),
                        uint64_t{rows_} * shape_.num_q_heads * shape_.head_dim, stream);
    if (error != cudaSuccess) return error;
    error = fill_values(memory_[kRows].as<float>(), row_floats(), stream);
    if (error != cudaSuccess) return error;
    return launch_store_queries({.step = memory_[kViews].as<const StepView>(),
                                 .queries = memory_[kQueries].as<float>(),
                                 .num_columns = rows_,
                                 .num_q_heads = shape_.num_q_heads,
                                 .num_kv_heads = shape_.num_kv_heads,
                                 .head_dim = shape_.head_dim,
                                 .scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim)),
                                 .format = format_,
                                 .operands = memory_[kQueryOperands].data(),
                                 .scales = memory_[kQueryScales].as<float>()},
                                stream);
  }

  // But for the step and the work.
  FlashAttention common() const {
    FlashAttention launch;
    launch.cache.tiles = memory_[kTiles].data();
    launch.cache.num_kv_heads = shape_.num_kv_heads;
    launch.cache.ring_positions = shape_.ring_positions;
    launch.cache.head_dim = shape_.head_dim;
    launch.cache.v_head_dim = shape_.v_head_dim;
    launch.cache.page_positions = shape_.window == 0 ? kKvTilePositions : 0;
    if (format_ == KvFormat::kE4m3) launch.cache.scales = memory_[kScales].as<const KvScales>();
    launch.format = format_;
    launch.max_columns = rows_;
    launch.query = memory_[kQueries].as<float>();
    launch.scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    launch.query_operands = memory_[kQueryOperands].data();
    launch.query_scales = memory_[kQueryScales].as<float>();
    launch.output = memory_[kOutput].as<float>();
    if (shape_.has_sink) launch.sinks = memory_[kSinks].as<float>();
    launch.num_q_heads = shape_.num_q_heads;
    launch.window = shape_.window;
    if (launch.is_short()) launch.rows = memory_[kRows].as<float>();
    launch.partials = {memory_[kSums].as<float>(), memory_[kStates].as<float2>(),
                       memory_[kArrivals].as<uint32_t>()};
    launch.num_ctas = num_ctas_;
    return launch;
  }

  AttentionShape shape_;
  KvFormat format_;
  uint32_t rows_ = 0;
  uint32_t first_ = 0;       // position of a step's first column
  uint32_t num_pages_ = 0;   // tiles of a KV head that a sequence has
  uint64_t tile_bytes_ = 0;  // of 64 positions, all KV heads
  uint32_t num_ctas_ = 0;
  std::array<DeviceMemory, kNumParts> memory_;
};

}  // namespace

// Of decoding: of a drafter's block more is seen than what came before.
KernelGroups find_attention(const program::Program& program, const KernelBenchOptions& options) {
  std::vector<AttentionShape> shapes;
  for (const program::Stage& stage : program.stages) {
    const auto* op = std::get_if<program::AttentionOperands>(&stage.operands);
    if (op == nullptr || op->is_draft_block != 0) continue;
    AttentionShape shape;
    shape.num_q_heads = op->num_q_heads;
    shape.num_kv_heads = op->num_kv_heads;
    shape.head_dim = op->head_dim;
    shape.v_head_dim = op->v_head_dim;
    shape.window = op->window;
    shape.has_sink = op->sink != program::kNoId;
    if (op->window != 0) shape.ring_positions = program.caches[op->cache].ring_positions;
    if (std::ranges::find(shapes, shape) == shapes.end()) shapes.push_back(shape);
  }
  KernelGroups groups;
  for (const AttentionShape& shape : shapes) {
    const auto lengths = shape.window == 0 ? options.positions : std::vector<uint32_t>{0};
    for (const uint32_t positions : lengths) {
      for (const KvFormat format : {KvFormat::kE4m3, KvFormat::kBf16}) {
        groups.push_back(std::make_unique<AttentionGroup>(shape, format, positions, options.rows));
      }
    }
  }
  return groups;
}

}  // namespace ultraspeed::cuda
