// Weights by role: which matrices a model has, their shapes for any tensor-parallel split, and the
// loader that delivers each in a canonical packed form (tensor/weight_format.h), whatever layout
// the checkpoint uses. docs/weights_format.md describes layouts, packed forms and splits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "tensor/weight_format.h"

namespace ultraspeed::model {

class Checkpoint;

// The matrices of a target, a drafter or MTP layers, [rows, columns] of one shard (1 / n of the
// marked axis).
enum class TensorRole : uint8_t {
  kEmbedding,          // [vocab_size, hidden_size / n]
  kLmHead,             // [vocab_size / n, hidden_size]
  kFinalNorm,          // [1, hidden_size] kF32, whole on every shard
  kInputNorm,          // [1, hidden_size] kF32, whole
  kPostAttentionNorm,  // [1, hidden_size] kF32, whole
  kQkvProj,            // [(q_rows + k_rows + v_rows) / n, hidden_size]: the shard's q heads, then
                       // its k heads, then its v heads (LayerConfig::shard_kv_heads())
  kAttentionSink,      // [1, num_q_heads / n] kF32
  kOProj,              // [hidden_size, attention_output_size / n]
  kDenseGateUp,        // [2 * intermediate_size / n, hidden_size]: gate rows, then up rows
  kDenseDown,          // [hidden_size, intermediate_size / n]
  kRouter,             // [num_experts, hidden_size] kF32, whole
  kRouterBias,         // [1, num_experts] kF32, whole
  kExpertGateUp,       // [2 * moe_intermediate_size / n, hidden_size], one expert
  kExpertDown,         // [hidden_size, moe_intermediate_size / n], one expert
  // Biases, kF32, one a row of the matrix:
  kQkvBias,           // [qkv_rows / n, 1], rows as kQkvProj's
  kOBias,             // [hidden_size, 1], whole
  kExpertGateUpBias,  // [2 * moe_intermediate_size / n, 1], one expert, rows as kExpertGateUp's
  kExpertDownBias,    // [hidden_size, 1], one expert, whole
  // Norms of single heads of q and k:
  kQNorm,  // [1, head_dim] kF32, whole
  kKNorm,  // [1, head_dim] kF32, whole
  // Of a DFlash drafter alone, which makes keys and values from two sources:
  kQProj,          // [q_rows / n, hidden_size]
  kKvProj,         // [(k_rows + v_rows) / n, hidden_size]: the shard's k heads, then its v heads
  kFeatureProj,    // [hidden_size / n, num_taps * hidden_size]
  kFeatureNorm,    // [1, hidden_size] kF32, whole
  kMaskEmbedding,  // [1, hidden_size / n] kBf16, from a file of its own
  // Of its selector: what the target's tables are multiplied with, and the products, a row a token.
  kPredecessorProj,   // [selector_rank, hidden_size], whole on every shard
  kSuccessorProj,     // [selector_rank, hidden_size], whole
  kSelectorProj,      // [selector_rank, hidden_size] kF32, whole
  kPredecessorCodes,  // [vocab_size, selector_rank] kF32, whole; in no file
  kSuccessorCodes,    // [vocab_size, selector_rank] kF32, whole; in no file
  // Of an MTP layer alone:
  kMtpEmbeddingNorm,  // [1, hidden_size] kF32, whole
  kMtpHiddenNorm,     // [1, hidden_size] kF32, whole
  kMtpProj,           // [hidden_size / n, 2 * hidden_size]: columns of the embedding, of the hidden
  kMtpFinalNorm,      // [1, hidden_size] kF32, whole
};

std::string_view tensor_role_name(TensorRole role);
bool is_expert_role(TensorRole role);  // one matrix an expert

// One matrix of one shard. `layer` and `expert` are 0 where the role has none.
struct WeightSource {
  TensorRole role = TensorRole::kEmbedding;
  uint32_t layer = 0;
  uint32_t expert = 0;
  uint32_t shard = 0;
  uint32_t num_shards = 1;
  Stack stack = Stack::kTarget;

  bool operator==(const WeightSource&) const = default;
};

struct WeightShape {
  tensor::WeightFormat format = tensor::WeightFormat::kF32;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint64_t bytes = 0;  // packed_bytes(format, rows, columns)

  bool operator==(const WeightShape&) const = default;
};

// The shape of a matrix stored as `format`. Errors: kUnsupported when num_shards does not divide
// the split axis, or a shard's columns would neither be whole scale blocks nor, of FP8, lie in one.
// REQUIRES: layer, expert and shard are in range, and the layer and the stack have the role.
Result<WeightShape> weight_shape(const ModelConfig& config, const WeightSource& source,
                                 tensor::WeightFormat format);

// The format a checkpoint of this configuration should use, from config.json alone (for planning
// without weights). A real checkpoint's own dtypes win: see WeightLoader::shape.
tensor::WeightFormat expected_format(const ModelConfig& config, TensorRole role, uint32_t layer);

// weight_shape with expected_format.
Result<WeightShape> expected_shape(const ModelConfig& config, const WeightSource& source);

// Every matrix of one shard that a checkpoint's tensors hold, in the order a step reads them; of a
// drafter, first those that extend its context. What a program takes in another form is left out:
// a kMaskEmbedding, the projections of codes.
std::vector<WeightSource> all_weights(const ModelConfig& config, uint32_t shard,
                                      uint32_t num_shards);

// For whoever loads a whole model: called after each matrix with the packed bytes so far and in
// all.
using ProgressCallback = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

// Reads weights of a checkpoint. Both arguments must outlive the loader. Const calls may run on
// several threads at once. A call needs at most one stored tensor of memory besides its output.
// Errors name file, tensor and expectation: kNotFound for a missing tensor, kInvalidData for wrong
// dtypes, shapes, NaN codes or scales, kUnsupported for impossible splits, kIo for a
// file that shrank.
class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, const ModelConfig& config)
      : checkpoint_(&checkpoint), config_(&config) {}

  // The shape with the format that the checkpoint really uses; looks at headers only.
  Result<WeightShape> shape(const WeightSource& source) const;

  // Writes the packed matrix. REQUIRES: out.size() == shape(source)->bytes.
  Status load(const WeightSource& source, std::span<std::byte> out) const;

  // All numbers of a norm, router or bias. REQUIRES: a role that is loaded as f32.
  Result<std::vector<float>> load_floats(const WeightSource& source) const;

  // Checks every matrix of the model by its headers: the first error is what `run DIR` reports for
  // an incomplete checkpoint.
  Status check_complete() const;

 private:
  uint32_t qkv_chunks() const;

  const Checkpoint* checkpoint_;
  const ModelConfig* config_;
};

}  // namespace ultraspeed::model
