// The same bytes as report.h's, in closed form from config.json: what the sums over a program's
// tasks are compared with. Element counts divide by the ranks; bytes are of one rank.
#pragma once

#include <array>
#include <cstdint>

#include "model/config.h"
#include "plan/report.h"

namespace ultraspeed::plan::test {

// Packed bytes of `elements` in rows of `columns`: FP8 has a float scale for 128 columns, MXFP4 a
// byte for 32.
inline uint64_t bf16(uint64_t elements) {
  return 2 * elements;
}
inline uint64_t f32(uint64_t elements) {
  return 4 * elements;
}
inline uint64_t fp8(uint64_t elements) {
  return elements + elements / 128 * 4;
}
inline uint64_t mxfp4(uint64_t elements) {
  return elements / 2 + elements / 32;
}

struct ClosedForm {
  std::array<uint64_t, kNumWeightGroups> stored = {};
  std::array<uint64_t, kNumWeightGroups> read = {};

  uint64_t& stored_of(WeightGroup group) { return stored[static_cast<size_t>(group)]; }
};

// Of a model with FP8 linears, MXFP4 experts and o_proj as `o_proj_bytes` packs it. REQUIRES: rows
// of every FP8 matrix have a multiple of 128 columns.
inline ClosedForm closed_form(const model::ModelConfig& config, uint64_t ranks, uint64_t width,
                              uint64_t (*o_proj_bytes)(uint64_t)) {
  const uint64_t hidden = config.hidden_size;
  ClosedForm form;
  uint64_t expert_layers = 0;
  for (const model::LayerConfig& layer : config.layers) {
    form.stored_of(WeightGroup::kQkv) += fp8(hidden * layer.qkv_rows() / ranks);
    form.stored_of(WeightGroup::kOProj) +=
        o_proj_bytes(hidden * layer.attention_output_size() / ranks);
    form.stored_of(WeightGroup::kNorms) += f32(2 * hidden);
    if (layer.has_sink) form.stored_of(WeightGroup::kNorms) += f32(layer.num_q_heads / ranks);
    if (layer.is_moe) {
      ++expert_layers;
      form.stored_of(WeightGroup::kRouter) += f32((hidden + 1) * config.num_experts);
    } else {
      form.stored_of(WeightGroup::kDense) += fp8(3 * hidden * config.intermediate_size / ranks);
    }
  }
  form.stored_of(WeightGroup::kNorms) += f32(hidden);
  form.stored_of(WeightGroup::kHead) = bf16(hidden * config.vocab_size / ranks);
  form.stored_of(WeightGroup::kEmbedding) = bf16(hidden * config.vocab_size / ranks);
  const uint64_t expert = mxfp4(3 * hidden * config.moe_intermediate_size / ranks);
  form.stored_of(WeightGroup::kExperts) = expert_layers * config.num_experts * expert;

  form.read = form.stored;
  form.read[static_cast<size_t>(WeightGroup::kEmbedding)] = width * bf16(hidden / ranks);
  form.read[static_cast<size_t>(WeightGroup::kExperts)] = expert_layers * expert;
  return form;
}

}  // namespace ultraspeed::plan::test
