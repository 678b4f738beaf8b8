// Every tensor name of the families and of DFlash drafters, in one place
// (docs/weights_format.md section 1).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ultraspeed::model {

// The names of a layer's modules and parameters; a weight matrix is a module plus one of the
// suffixes below.
inline constexpr std::string_view kEmbeddingModule = "model.embed_tokens";
inline constexpr std::string_view kLmHeadModule = "lm_head";
inline constexpr std::string_view kFinalNormModule = "model.norm";

inline constexpr std::string_view kInputNormModule = "input_layernorm";
inline constexpr std::string_view kPostAttentionNormModule = "post_attention_layernorm";
inline constexpr std::string_view kQkvModule = "self_attn.qkv_proj";  // fused layouts
inline constexpr std::string_view kQModule = "self_attn.q_proj";      // split layouts
inline constexpr std::string_view kKModule = "self_attn.k_proj";
inline constexpr std::string_view kVModule = "self_attn.v_proj";
inline constexpr std::string_view kOModule = "self_attn.o_proj";
inline constexpr std::string_view kSinkParameter = "self_attn.attention_sink_bias";
inline constexpr std::string_view kDenseGateModule = "mlp.gate_proj";
inline constexpr std::string_view kDenseUpModule = "mlp.up_proj";
inline constexpr std::string_view kDenseDownModule = "mlp.down_proj";
inline constexpr std::string_view kRouterModule = "mlp.gate";
inline constexpr std::string_view kRouterBiasParameter = "mlp.gate.e_score_correction_bias";
inline constexpr std::string_view kExpertGateModule = "gate_proj";
inline constexpr std::string_view kExpertUpModule = "up_proj";
inline constexpr std::string_view kExpertDownModule = "down_proj";

// Of a DFlash drafter, whose layers have the names above but no "model." before them.
inline constexpr std::string_view kFeatureModule = "fc";
inline constexpr std::string_view kFeatureNormModule = "hidden_norm";
inline constexpr std::string_view kDrafterFinalNormModule = "norm";
inline constexpr std::string_view kQNormModule = "self_attn.q_norm";
inline constexpr std::string_view kKNormModule = "self_attn.k_norm";
inline constexpr std::string_view kPredecessorModule = "selector.predecessor_proj";
inline constexpr std::string_view kSuccessorModule = "selector.successor_proj";
inline constexpr std::string_view kSelectorModule = "selector.hidden_proj";

// Of an MTP layer, which has the other names of a target's layer.
inline constexpr std::string_view kMtpEmbeddingNormModule = "enorm";
inline constexpr std::string_view kMtpHiddenNormModule = "hnorm";
inline constexpr std::string_view kMtpProjModule = "eh_proj";
inline constexpr std::string_view kMtpPostAttentionNormModule = "pre_mlp_layernorm";
inline constexpr std::string_view kMtpFinalNormModule = "final_layernorm";

// gpt-oss: the experts of a layer in one tensor, with suffixes of their own.
inline constexpr std::string_view kStackedGateUpModule = "mlp.experts.gate_up_proj";
inline constexpr std::string_view kStackedDownModule = "mlp.experts.down_proj";
inline constexpr std::string_view kBlocksSuffix = "_blocks";       // MXFP4 codes, 16 bytes a block
inline constexpr std::string_view kBlockScalesSuffix = "_scales";  // E8M0
inline constexpr std::string_view kStackedBiasSuffix = "_bias";

inline constexpr std::string_view kWeightSuffix = ".weight";
inline constexpr std::string_view kBiasSuffix = ".bias";
inline constexpr std::string_view kFp8ScaleSuffix = ".weight_scale_inv";  // f32, 128x128 blocks
inline constexpr std::string_view kMxScaleSuffix = ".weight_scale";       // E8M0, 32 columns

std::string layer_name(uint32_t layer, std::string_view name);          // model.layers.3.NAME
std::string drafter_layer_name(uint32_t layer, std::string_view name);  // layers.3.NAME
std::string mtp_layer_name(uint32_t layer, std::string_view name);      // model.mtp.layers.0.NAME
// model.layers.3.mlp.experts.7.NAME
std::string expert_name(uint32_t layer, uint32_t expert, std::string_view name);

enum class TensorOwner { kBackbone, kMtp, kDrafter, kOther };

struct TensorNameInfo {
  TensorOwner owner = TensorOwner::kOther;
  uint32_t mtp_layer = 0;  // of kMtp
};

// Which part of a checkpoint a tensor belongs to, by its name.
TensorNameInfo classify_tensor_name(std::string_view name);

}  // namespace ultraspeed::model
