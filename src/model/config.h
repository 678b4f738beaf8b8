// config.json of a model as plain numbers, one LayerConfig a layer. config_FAMILY.cc has what is
// read of a family: MiMo-V2 (V2-Flash, V2.5, V2.5-Pro, V2.6), Llama, Qwen3, gpt-oss. Everything is
// range-checked here: code behind a ModelConfig divides and multiplies freely. Errors name the file
// and the key; kUnsupported marks a well-formed model this engine cannot run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/tensor_names.h"
#include "tensor/rope.h"
#include "tensor/weight_format.h"

namespace ultraspeed::model {

struct LayerConfig {
  bool is_sliding = false;
  uint32_t num_q_heads = 0;
  uint32_t num_kv_heads = 0;  // divides num_q_heads; q head h uses kv head h / (q heads / kv heads)
  uint32_t head_dim = 0;      // of q and k
  uint32_t v_head_dim = 0;    // of v and of the attention output
  uint32_t rotary_dim = 0;    // even; pairs (i, i + rotary_dim / 2)
  tensor::Rope rope;
  uint32_t sliding_window = 0;  // visible keys including the token itself; 0 = full attention
  bool has_sink = false;        // one sink logit a q head
  bool has_qk_norm = false;     // q and k are normalised head by head before the rotation
  bool is_moe = false;

  uint32_t q_rows() const { return num_q_heads * head_dim; }
  uint32_t k_rows() const { return num_kv_heads * head_dim; }
  uint32_t v_rows() const { return num_kv_heads * v_head_dim; }
  uint32_t qkv_rows() const { return q_rows() + k_rows() + v_rows(); }
  uint32_t attention_output_size() const { return num_q_heads * v_head_dim; }  // o_proj's columns

  // The kv heads of one of n shards, which hold equally many q heads: those that its q heads use.
  // Where there are fewer kv heads than shards, neighbouring shards have the same one.
  struct HeadRange {
    uint32_t begin = 0, count = 0;
  };
  HeadRange shard_kv_heads(uint32_t shard, uint32_t n) const {
    return {static_cast<uint32_t>(uint64_t{shard} * num_kv_heads / n),
            num_kv_heads < n ? 1 : num_kv_heads / n};
  }
  bool has_head_shards(uint32_t n) const {
    return num_q_heads % n == 0 && (num_kv_heads % n == 0 || n % num_kv_heads == 0);
  }
};

// How q, k and v lie in the file (docs/weights_format.md section 2).
enum class QkvLayout {
  kSplit,  // q_proj, k_proj, v_proj
  kFused,  // qkv_proj = [Q_0 | K_0 | V_0 | Q_1 | K_1 | V_1 | ...], qkv_chunks chunks
};

// How the experts of a layer lie in the file.
enum class ExpertLayout : uint8_t {
  kSplit,   // experts.E.gate_proj, up_proj, down_proj
  kBlocks,  // gpt-oss: experts.gate_up_proj_{blocks,scales,bias} of all experts, gate and up rows
            // in turn, and down_proj_* likewise
};

// Names that families give to the same parameters, behind "model.layers.N.".
struct FamilyNames {
  std::string_view sink = kSinkParameter;
  std::string_view router = kRouterModule;
  std::string_view router_bias = kRouterBiasParameter;
};

struct QuantizationConfig {
  bool has_fp8_linears = false;             // quant_method "fp8", e4m3, 128x128 scale blocks
  bool has_mxfp4_experts = false;           // store_dtype "mxfp4", 32 columns a scale
  std::vector<std::string> ignored_layers;  // sorted module names that stay BF16

  bool is_ignored(std::string_view module) const;
};

// Whose layers a configuration, a tensor name or a weight is about.
enum class Stack : uint8_t {
  kTarget,
  kDflash,  // a DFlash drafter: no embedding and no head of its own; names without "model."
  kMtp,     // the target's multi-token-prediction heads, a layer each: names with "model.mtp."
};

struct ModelConfig {
  std::string file;  // where it was read, for messages
  Stack stack = Stack::kTarget;
  std::string model_type;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;      // of dense layers
  uint32_t moe_intermediate_size = 0;  // of one expert
  uint32_t num_experts = 0;
  uint32_t num_experts_per_token = 0;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1.0F;
  float rms_norm_eps = 0;
  uint32_t vocab_size = 0;
  uint32_t max_position_embeddings = 0;
  float attention_value_scale = 1.0F;  // v is multiplied by it before the cache
  bool tie_word_embeddings = false;
  bool has_attention_biases = false;  // of qkv and o_proj
  bool has_expert_biases = false;
  bool has_router_bias = true;  // one number an expert
  bool has_softmax_router =
      false;               // softmax scores of logit + bias; else sigmoid, docs in program/
  float swiglu_limit = 0;  // experts clamp gate and up (program::SwigluClamp); 0: they do not
  FamilyNames names;
  ExpertLayout expert_layout = ExpertLayout::kSplit;
  uint32_t num_mtp_layers = 0;  // as config.json claims; published files often omit the key
  QkvLayout qkv_layout = QkvLayout::kSplit;
  uint32_t qkv_chunks = 1;  // T: chunks of a fused qkv; also where a split FP8 grid may restart
  QuantizationConfig quantization;
  std::vector<uint32_t> eos_token_ids;
  std::vector<LayerConfig> layers;
  // Of kDflash: residuals of the target that a feature is made from; 0 or its selector's rank.
  uint32_t num_taps = 0, selector_rank = 0;

  uint32_t num_layers() const { return static_cast<uint32_t>(layers.size()); }

  // The first `num_heads` MTP heads as a stack for weights and planning, of Stack::kMtp: dense
  // layers with the attention of the target's sliding ones. Errors: kUnsupported for a target
  // without sliding layers.
  Result<ModelConfig> mtp_stack(uint32_t num_heads) const;

  static Result<ModelConfig> parse(std::string_view file, std::string_view json);
  static Result<ModelConfig> load(const std::string& directory);  // DIR/config.json
};

// Parameters of the backbone: no MTP blocks, no drafter, no vision or audio towers.
struct ParameterCount {
  uint64_t total = 0;
  uint64_t active = 0;  // touched by one token: num_experts_per_token experts a layer
};
ParameterCount count_parameters(const ModelConfig& config);

// generation_config.json: the sampling defaults. An absent key leaves the neutral value.
struct GenerationConfig {
  bool do_sample = false;  // false: greedy
  float temperature = 1.0F;
  float top_p = 1.0F;
  uint32_t top_k = 0;  // 0: off
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  std::vector<uint32_t> eos_token_ids;

  static Result<GenerationConfig> parse(std::string_view file, std::string_view json);
  // DIR/generation_config.json; a missing file gives the defaults.
  static Result<GenerationConfig> load(const std::string& directory);
};

// The union of both files' eos ids, ascending.
std::vector<uint32_t> stop_token_ids(const ModelConfig& config, const GenerationConfig& generation);

// What programs have room for.
inline constexpr uint32_t kMaxSelectorRank = 128;
inline constexpr uint32_t kMaxSelectorCandidates = 16;

// A DFlash drafter's config.json (DIR/dflash/config.json or a folder of its own): its geometry.
// Early published files end a list with a comma, which is accepted here. Two forms exist: z-lab's
// (layer_types, sliding_window, is_causal) and MiMo's (a window, sinks and a value scale inside
// dflash_config). What is easily mixed up, in one place:
//
//   tap      target layer k of target_layer_ids stands for the residual after layer k, counted from
//            0 (others call it k + 1, the input of the next layer); after the last layer: before
//            the final norm.
//   feature  hidden_norm(fc(taps)) of one position. A layer's context keys and values are made from
//            it directly, without input_layernorm, at the position whose residuals it holds.
//   block    row 0 is the anchor, the newest token, known by its embedding alone; the others are
//            masks. Row k predicts the token at its own position (no shift); what row 0 predicts
//            is thrown away. The context ends before the anchor's position.
//   mask     a mask row's embedding is mask_embedding.pt where that file exists (in MiMo's table
//            the row mask_token_id is nearly zero), else row mask_token_id of the target's table.
//   RoPE     rope_theta (or rope_parameters.rope_theta) at absolute positions;
//            dflash_config.backbone_rotary_base speaks of the target and is not read.
//   window   z-lab: a row at q sees context and block positions k with q - k < window, itself
//            included, and k - q < window where it may look ahead. MiMo (swa_window_size): every
//            row sees the `window` positions before the anchor, and the whole block.
//   causal   is_causal, else dflash_config.causal, decides for all layers; without either, the
//            layers that layer_types calls sliding_attention are causal inside the block.
struct DrafterConfig {
  struct Layer {
    uint32_t sliding_window = 0;  // 0: all positions
    bool is_causal = false;       // inside the block
  };
  struct Selector {
    uint32_t rank = 0;  // 0: there is none
    uint32_t num_candidates = 16;
  };

  std::string file;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_layers = 0;
  uint32_t num_q_heads = 0;
  uint32_t num_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t v_head_dim = 0;
  uint32_t rotary_dim = 0;
  uint32_t vocab_size = 0;
  uint32_t block_size = 0;  // rows of one draft block, the anchor included
  uint32_t mask_token_id = 0;
  bool has_mask_embedding = false;        // a file of its own; set by Drafter::open
  uint32_t sliding_window = 0;            // of the sliding layers; 0: there are none
  bool has_window_before_anchor = false;  // MiMo's window, else z-lab's
  std::vector<Layer> layers;              // [num_layers]
  uint32_t num_target_layers = 0;
  std::vector<uint32_t> target_layer_ids;  // ascending
  float rope_theta = 0;
  float rms_norm_eps = 0;
  float attention_value_scale = 1.0F;
  bool has_sink = false;
  Selector selector;  // dflash_config.selector

  // The layers as a stack for weights and planning, of Stack::kDflash.
  ModelConfig stack() const;

  static Result<DrafterConfig> parse(std::string_view file, std::string_view json);
  static Result<DrafterConfig> load(const std::string& directory);  // DIRECTORY/config.json
};

uint64_t count_parameters(const DrafterConfig& config);

}  // namespace ultraspeed::model
