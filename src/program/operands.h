// What each opcode computes and on what: one operand struct an opcode, shared by all tasks of a
// stage. Shapes: T = Program::width columns (tokens), H = hidden_size. Buffers are row-major,
// 4-byte elements. Under tensor parallelism head counts, intermediate sizes and weight shapes are
// those of one rank that has a share (program.h). RMSNorm is folded into the consumers: norm(x) = w
// * (x * rsqrt(mean(x^2) + epsilon)). Reduction order is part of the definition: docs/numerics.md.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "program/opcode.h"
#include "program/operand_ids.h"
#include "program/token_operands.h"
#include "tensor/rope.h"

namespace ultraspeed::program {

// hidden[t, c] = table[token_id[t], c - first_column]; broadcast to all ranks. A drafted column
// (step.h) takes the row drafted[t]; in the draft part, where its token is not known yet, the mask.
// With `tokens` every column takes the row tokens[t].
// Tile: columns of H; a rank's tiles lie in its own H / ranks columns.
struct EmbedOperands {
  static constexpr Opcode kOpcode = Opcode::kEmbed;
  WeightId table = kNoId;      // [vocab_size, H / ranks]
  BufferId hidden = kNoId;     // [T, H]
  BufferId drafted = kNoId;    // i32 [T]; kNoId: the draft part, or a program that drafts nothing
  WeightId mask = kNoId;       // [1, H / ranks]; kNoId: the table's row mask_token_id
  uint32_t mask_token_id = 0;  // of the draft part
  BufferId tokens = kNoId;     // i32 [T]; kNoId: the columns' own
};

// [q; k; v] = weight * norm(hidden) + bias; rotates the first rotary_dim dimensions of q and k
// (pairs (i, i + rotary_dim / 2)), scales v, writes q to `query` and k, v to the cache. With q_norm
// and k_norm each head of q and k is normalised before the rotation, which takes whole heads. A
// weight may hold q alone or k and v alone; the other count of heads is 0 then.
// Tile: heads of [q heads, k heads, v heads]; `part` of head_parts: that share of the rotation
// pairs and of the remaining dimensions of each head.
struct QkvProjOperands {
  static constexpr Opcode kOpcode = Opcode::kQkvProj;
  NormRef norm;
  WeightId weight = kNoId;      // [q heads * head_dim + kv heads * (head_dim + v_head_dim), H]
  WeightId bias = kNoId;        // f32, one a row of the weight; kNoId: none
  BufferId hidden = kNoId;      // [T, H]
  BufferId query = kNoId;       // [T, num_q_heads * head_dim]; kNoId without q heads
  BufferId cache_rows = kNoId;  // stands for the rows that this step appends to the cache; without
                                // a cache, those rows: [T, kv heads * (head_dim + v_head_dim)], the
                                // k heads, then the v heads. kNoId without k and v heads
  CacheId cache = kNoId;        // kNoId: k and v go to cache_rows
  NormRef q_norm, k_norm;       // f32 [1, head_dim]; set: head_parts is 1
  uint32_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0, v_head_dim = 0, rotary_dim = 0;
  uint32_t head_parts = 1;
  float value_scale = 1;
  tensor::Rope rope;
};

// softmax(scale * q k^T + mask) v per head over positions (p - window, p], or [0, p] without
// window. Keys are taken in chunks of chunk_positions absolute positions whose partial results are
// merged in order; the sink is an extra first chunk with logit sink[head] and value 0. Tile: q
// heads; `part`: this split's chunks, c % num_splits == part. With one split the result goes to
// `output`, with more the partials go there and AttentionMerge combines them.
// In a draft block the cache ends before the sequence's first column of the step, and the columns'
// own keys and values are in cache_rows.
struct AttentionOperands {
  static constexpr Opcode kOpcode = Opcode::kAttention;
  BufferId query = kNoId;       // [T, num_q_heads * head_dim]
  BufferId cache_rows = kNoId;  // as in QkvProj
  BufferId output = kNoId;      // [T, num_q_heads * v_head_dim], or partials
                                // [T, num_q_heads, max_chunks, v_head_dim + 2]
  CacheId cache = kNoId;
  WeightId sink = kNoId;  // f32 [1, num_q_heads]; kNoId: none
  uint32_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0, v_head_dim = 0;
  uint32_t window = 0;  // 0: full attention
  uint32_t chunk_positions = 0, max_chunks = 0, num_splits = 1;
  float scale = 1;
  uint8_t is_draft_block = 0;
  uint8_t is_causal = 1;  // 0: [p, end of the sequence's columns) too, below p + window
  // 1: the window is the `window` positions before the sequence's first column of the step and,
  // beyond them, all of its columns.
  uint8_t is_window_before_step = 0;
};

// Merges the partials of num_splits > 1 in chunk order. Tile: q heads.
struct AttentionMergeOperands {
  static constexpr Opcode kOpcode = Opcode::kAttentionMerge;
  BufferId partials = kNoId;  // [T, num_q_heads, max_chunks, v_head_dim + 2]
  BufferId output = kNoId;    // [T, num_q_heads * v_head_dim]
  WeightId sink = kNoId;
  uint32_t num_q_heads = 0, v_head_dim = 0;
  uint32_t chunk_positions = 0, max_chunks = 0, num_splits = 1;
  uint8_t is_causal = 1;  // as in Attention
};

// partials[t, chunk, r] = weight[r, columns of chunk] * input[t, columns of chunk], for this rank's
// chunks (Program::num_chunks()), on the rank that owns row r, or on all. Tile: rows of H, one
// owner.
struct OutProjOperands {
  static constexpr Opcode kOpcode = Opcode::kOutProj;
  WeightId weight = kNoId;    // [H, input_size]
  BufferId input = kNoId;     // [T, input_size]
  BufferId partials = kNoId;  // [T, kReductionChunks, H]
  uint32_t input_size = 0;
  uint8_t to_all = 0;  // 1: on all ranks, of any rows
};

// output[t, r] = residual[t, r] + (partials[t, 0, r] + ... + partials[t, 7, r] + bias[r]),
// broadcast to all ranks, or for this rank alone. Tile: rows of H that this rank owns, or of all.
struct ReduceOperands {
  static constexpr Opcode kOpcode = Opcode::kReduce;
  BufferId partials = kNoId;  // [T, kReductionChunks, H]
  BufferId residual = kNoId;  // [T, H]
  BufferId output = kNoId;    // [T, H]
  WeightId bias = kNoId;      // f32 [1, H], whole on every rank; kNoId: none
  uint8_t is_own = 0;         // 1: each rank sums all rows for itself
};

// How a row's gate g and up u join: silu(g) * u, or gpt-oss's clamped form of it (transformers'
// GptOssExperts), which is g' * sigmoid(1.702 g') * (u' + 1) with g' = min(g, limit) and u' within
// +-limit.
struct SwigluClamp {
  static constexpr float kSlope = 1.702F;
  float limit = 0;  // 0: the plain form
};

// output[t, i] = silu(gate_i * norm(hidden[t])) * (up_i * norm(hidden[t])). Tile: rows i.
struct GateUpOperands {
  static constexpr Opcode kOpcode = Opcode::kGateUp;
  NormRef norm;
  WeightId weight = kNoId;  // [2 * intermediate_size, H]: gate rows, then up rows
  BufferId hidden = kNoId;  // [T, H]
  BufferId output = kNoId;  // [T, intermediate_size]
  uint32_t intermediate_size = 0;
};

// output[t, first_row + r] = weight[r] * norm(input[t]). Tile: rows r of this rank's weight.
struct LinearOperands {
  static constexpr Opcode kOpcode = Opcode::kLinear;
  // The taps of a feature projection: further inputs [T, H] that stand behind `input` as one row.
  using MoreInputs = std::array<BufferId, kMaxTaps - 1>;
  static constexpr MoreInputs kNoMoreInputs = {kNoId, kNoId, kNoId, kNoId, kNoId, kNoId, kNoId};

  NormRef norm;                            // of `input`
  NormRef second_norm;                     // of more_inputs[0]
  WeightId weight = kNoId;                 // [rows, number of inputs * H]
  BufferId input = kNoId;                  // [T, H]
  MoreInputs more_inputs = kNoMoreInputs;  // up to the first kNoId
  BufferId output = kNoId;                 // [T, total_rows]
  uint32_t rows = 0;                       // of this rank
  uint32_t total_rows = 0;       // rows, or ranks * rows when each rank computes its own part
  uint8_t logits_only = 0;       // 1: only columns whose logits are wanted (Column::wants_logits)
  uint8_t drafted_only = 0;      // 1: only drafted columns (Column::is_drafted)
  uint8_t gather_to_rank_0 = 0;  // 1: results go to rank 0 alone; 0: they stay on this rank
  uint8_t broadcast = 0;         // 1: results go to all ranks
  uint8_t keeps_share = 0;       // 1: they stay, for Sample's parts; tiled by columns, too
  BufferId accepted = kNoId;     // i32 [T]; set: only accepted columns that want logits (Follow)
};

// What a router's logits become.
enum class RouterScores : uint8_t {
  kSigmoid,  // sigmoid(logit); the bias is added to scores, for the choice alone
  kSoftmax,  // over all experts, of logit + bias; the sum is one of binary64, rounded
};

// The route table (route_table.h): the top_k highest scores select (ties to the lower id), weights
// are the scores, normalised to sum 1 if norm_topk, times scaling.
// Tile: the whole step, one task a rank.
struct RouteOperands {
  static constexpr Opcode kOpcode = Opcode::kRoute;
  BufferId logits = kNoId;  // [T, num_experts]
  BufferId route = kNoId;   // RouteTable
  WeightId bias = kNoId;    // f32 [1, num_experts]; kNoId: none
  uint32_t num_experts = 0, top_k = 0, max_slots = 0, max_pairs = 0;
  uint8_t norm_topk = 1;
  RouterScores scores = RouterScores::kSigmoid;
  float scaling = 1;
};

// For unit u = row_begin, row_begin + part, ... below slots * row_groups: slot = u / row_groups;
// activation rows of group u % row_groups as in GateUp for the slot's expert and columns, from
// products with the expert's bias added.
// Tile: row_begin is the first unit, part the stride. Signals flag u after each unit.
struct ExpertGateUpOperands {
  static constexpr Opcode kOpcode = Opcode::kExpertGateUp;
  NormRef norm;
  WeightId weight = kNoId;      // per expert [2 * intermediate_size, H]
  WeightId bias = kNoId;        // f32, per expert one a row of the weight; kNoId: none
  BufferId hidden = kNoId;      // [T, H]
  BufferId route = kNoId;       // RouteTable
  BufferId activation = kNoId;  // [pairs <= T * top_k, intermediate_size]
  uint32_t intermediate_size = 0, row_groups = 1, max_slots = 0, max_pairs = 0;
  SwigluClamp clamp;
};

// partials[t, chunk, r] = sum over live slots, ascending expert id, of route weight * (weight[r,
// columns of chunk] * activation[pair, columns of chunk]); in chunk 0 each slot also adds route
// weight * bias[r]. One unit a slot. Goes where OutProj's go. Tile: rows of H, one owner.
struct ExpertDownOperands {
  static constexpr Opcode kOpcode = Opcode::kExpertDown;
  WeightId weight = kNoId;      // per expert [H, intermediate_size]
  WeightId bias = kNoId;        // f32, per expert [1, H], whole on every rank; kNoId: none
  BufferId activation = kNoId;  // as in ExpertGateUp
  BufferId route = kNoId;       // RouteTable
  BufferId partials = kNoId;    // [T, kReductionChunks, H]
  uint32_t intermediate_size = 0, row_groups = 1, max_slots = 0, max_pairs = 0;
  uint8_t to_all = 0;  // as in OutProj
};

// One alternative an opcode, in the order of US_OPCODES.
using Operands =
    std::variant<EmbedOperands, QkvProjOperands, AttentionOperands, AttentionMergeOperands,
                 OutProjOperands, ReduceOperands, GateUpOperands, LinearOperands, RouteOperands,
                 ExpertGateUpOperands, ExpertDownOperands, SampleOperands, NominateOperands,
                 ProposeOperands, AcceptOperands, FollowOperands>;
static_assert(std::variant_size_v<Operands> == kNumOpcodes);

#define US_CHECK_ORDER(name)                                                                     \
  static_assert(                                                                                 \
      std::is_same_v<std::variant_alternative_t<static_cast<size_t>(Opcode::k##name), Operands>, \
                     name##Operands> &&                                                          \
      name##Operands::kOpcode == Opcode::k##name);
US_OPCODES(US_CHECK_ORDER)
#undef US_CHECK_ORDER

inline Opcode opcode_of(const Operands& operands) {
  return static_cast<Opcode>(operands.index());
}

}  // namespace ultraspeed::program
