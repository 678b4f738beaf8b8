// A program: everything an executor needs to run one step of a model at one width, and nothing that
// says which model it is. Made by plan/, proven by verify(), run by cpu/ and cuda/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "program/operands.h"
#include "program/task.h"
#include "tensor/weight_format.h"

namespace ultraspeed::program {

// Where heads or columns are too few for all ranks, or a cut would go through a scale block, every
// rank_stride-th rank has a share: 0, rank_stride, 2 * rank_stride, ... The others have none, and
// no tasks of the stages that need one.
constexpr bool has_share(uint32_t rank, uint32_t rank_stride) {
  return rank % rank_stride == 0;
}

struct WeightDecl {
  std::string name;  // for reports, e.g. "layers.3.expert_gate_up"
  tensor::WeightFormat format = tensor::WeightFormat::kF32;
  uint32_t rows = 0, cols = 0;  // of one matrix, on one rank
  uint32_t count = 1;           // matrices: the experts of a layer, else 1
  uint32_t rank_stride = 1;     // has_share()
  uint32_t first_block = 0;     // in the packed weight arena; 0 of 0 blocks: not streamed
  uint32_t blocks_per_matrix = 0;

  uint64_t matrix_bytes() const { return tensor::packed_bytes(format, rows, cols); }
  uint64_t size_bytes() const { return matrix_bytes() * count; }
};

// A buffer is a value: one stage writes it, once. Two buffers may share memory (offset_bytes) when
// their lives do not overlap, which verify() proves.
struct BufferDecl {
  std::string name;
  uint32_t extent = 0;        // length of the axis that tiles partition (operands.h)
  uint64_t size_bytes = 0;    // 0: not in the activation arena (the rows appended to a KV cache)
  uint64_t offset_bytes = 0;  // into a rank's activation arena; the same on every rank
  // The step leaves it complete for whoever comes after: the host on rank 0 (kHost), or the next
  // step on every rank that has a share (kCache).
  enum class Output : uint8_t { kNone, kHost, kCache } output = Output::kNone;
  uint32_t rank_stride = 1;  // of kCache
};

// Keys and values of one layer, on one rank: f32 [positions, num_kv_heads, head_dim] and
// [positions, num_kv_heads, v_head_dim].
struct CacheDecl {
  uint32_t num_kv_heads = 0, head_dim = 0, v_head_dim = 0;
  uint32_t ring_positions = 0;  // sliding layers: a ring a sequence; 0: paged (full attention)
  uint32_t rank_stride = 1;     // has_share()

  uint64_t position_bytes() const { return uint64_t{4} * num_kv_heads * (head_dim + v_head_dim); }
};

struct Stage {
  std::string name;  // "layers.3.qkv_proj"
  uint16_t layer = kNoLayer;
  Operands operands;
  bool is_drafters = false;  // what drafts are depends on it, what a text is does not

  Opcode opcode() const { return opcode_of(operands); }
};

struct Program {
  std::string name;    // "decode", "prefill"
  uint32_t width = 0;  // columns
  uint32_t num_ranks = 1;
  uint32_t num_workers = 1;  // per rank
  uint32_t hidden_size = 0;
  uint32_t kv_page_positions = 0;  // positions of one page of the paged caches
  uint32_t weight_page_bytes = 0;  // a worker streams its tiles through a ring of such pages
  uint32_t ring_pages = 0;
  uint64_t num_weight_blocks = 0;  // packed weights of one rank

  std::vector<WeightDecl> weights;
  std::vector<CacheDecl> caches;
  std::vector<BufferDecl> buffers;
  std::vector<Stage> stages;
  std::vector<BufferId> captured;  // residuals [T, H] that PlanOptions lets the host read
  uint64_t arena_bytes = 0;        // activation arena of one rank
  uint32_t num_counters = 0;
  uint32_t num_flags = 0;

  // Task lists, [rank * num_workers + worker]; a worker executes its list in order.
  std::vector<std::vector<Task>> lists;

  const std::vector<Task>& list(uint32_t rank, uint32_t worker) const {
    return lists[rank * num_workers + worker];
  }
  // It chooses the tokens of drafted columns (step.h).
  bool is_drafting() const {
    return std::any_of(stages.begin(), stages.end(), [](const Stage& stage) {
      const auto* propose = std::get_if<ProposeOperands>(&stage.operands);
      return propose != nullptr && propose->ends_draft();
    });
  }
  // Its MTP heads: how many tokens it proposes for a sequence's next step.
  uint32_t num_mtp_heads() const {
    return static_cast<uint32_t>(
        std::count_if(stages.begin(), stages.end(),
                      [](const Stage& stage) { return stage.opcode() == Opcode::kFollow; }));
  }
  // The K-chunks that a rank with a share of a split product's weight computes, from chunk
  // first_chunk(rank) on.
  uint32_t num_chunks(WeightId weight) const {
    return kReductionChunks / num_ranks * weights[weight].rank_stride;
  }
  uint32_t first_chunk(uint32_t rank) const { return kReductionChunks / num_ranks * rank; }

  uint64_t num_tasks() const {
    uint64_t total = 0;
    for (const auto& tasks : lists) total += tasks.size();
    return total;
  }
};

}  // namespace ultraspeed::program
