// Writes small random checkpoints of the MiMo-V2 family in every layout, together with the dense
// numbers they stand for. The defaults are a test-size model: hidden 256, 4 layers, 2 or 4 kv heads
// of 96/64, 8 experts, window 8. All values are exactly representable in their stored form, so a
// correct loader gives back exactly the dense numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"
#include "support/safetensors_writer.h"
#include "tensor/weight_format.h"

namespace ultraspeed::test {

struct GeneratorOptions {
  uint64_t seed = 1;

  // Layout.
  model::QkvLayout qkv_layout = model::QkvLayout::kSplit;
  bool restart_split_scale_grid = false;  // V2-Flash: the grid of q, k, v restarts per kv head
  tensor::WeightFormat linear_format = tensor::WeightFormat::kFp8Block128;  // qkv and dense FFN
  tensor::WeightFormat output_projection_format = tensor::WeightFormat::kBf16;
  tensor::WeightFormat embedding_format = tensor::WeightFormat::kBf16;  // and the output head
  tensor::WeightFormat expert_format = tensor::WeightFormat::kMxfp4;
  tensor::WeightFormat router_format = tensor::WeightFormat::kF32;
  bool tie_word_embeddings = false;
  bool has_bf16_scales = false;  // of FP8: as Qwen3 publishes them
  uint32_t num_files = 1;
  uint32_t num_mtp_layers = 0;

  // Sizes.
  uint32_t hidden_size = 256;
  uint32_t intermediate_size = 192;
  uint32_t moe_intermediate_size = 64;
  uint32_t num_experts = 8;
  uint32_t num_experts_per_token = 3;
  uint32_t vocab_size = 256;
  uint32_t num_q_heads = 4;
  uint32_t num_kv_heads = 2;  // also the chunks of a fused qkv
  uint32_t num_sliding_kv_heads = 4;
  uint32_t head_dim = 96;
  uint32_t v_head_dim = 64;
  uint32_t sliding_window = 8;
  uint32_t max_position_embeddings = 2048;
  std::vector<uint32_t> sliding_layers = {0, 1, 1, 0};  // one entry a layer
  std::vector<uint32_t> moe_layers = {0, 1, 1, 1};
};

struct DenseWeight {
  uint32_t rows = 0;
  uint32_t columns = 0;
  std::vector<float> values;  // [rows, columns], in the order of TensorRole's description
};

struct GeneratedCheckpoint {
  std::vector<StoredTensor> tensors;  // what the files hold
  std::map<std::tuple<model::TensorRole, uint32_t, uint32_t>, DenseWeight> weights;
  // Of MTP layers, by tensor name: "model.mtp.layers.0.eh_proj.weight"; q, k and v are always
  // ...self_attn.qkv_proj.weight, in the order of TensorRole::kQkvProj.
  std::map<std::string, DenseWeight> mtp;

  const DenseWeight& at(model::TensorRole role, uint32_t layer = 0, uint32_t expert = 0) const {
    return weights.at({role, layer, expert});
  }
};

std::string config_json(const GeneratorOptions& options);

// The tensors and their dense numbers, without files.
GeneratedCheckpoint generate_checkpoint(const GeneratorOptions& options);

// The MTP layers alone.
GeneratedCheckpoint generate_mtp_layers(const GeneratorOptions& options);

// Of a model that 8 ranks can share.
GeneratorOptions eight_rank_options();

// Of a model with MiMo's heads, whose rounded KV caches are tiles on a GPU: 192/128, 16 query heads
// over 1 kv head in full layers and 2 in sliding ones; window 128.
GeneratorOptions tile_options();

// Writes config.json, generation_config.json and the weights into an existing folder.
Status write_checkpoint(const std::string& directory, const GeneratorOptions& options,
                        const GeneratedCheckpoint& checkpoint);
Result<GeneratedCheckpoint> write_checkpoint(const std::string& directory,
                                             const GeneratorOptions& options);

}  // namespace ultraspeed::test
