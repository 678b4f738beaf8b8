// A generated checkpoint of which every matrix but the routers has pages on the GPU in w4a8.
#pragma once

#include "support/checkpoint_generator.h"

namespace ultraspeed::test {

// The smallest shapes whose K-chunks the dense kernels take: hidden size, and an eighth of the
// attention's output and of the intermediate size, are 1024. A dense layer and two of experts: FP8
// beside FP8, otherwise MXFP4, in K-chunks of 16 columns.
inline GeneratorOptions paged_checkpoint(tensor::WeightFormat format) {
  GeneratorOptions options;
  options.linear_format = options.output_projection_format = options.embedding_format = format;
  const bool is_fp8 = format == tensor::WeightFormat::kFp8Block128;
  options.expert_format = is_fp8 ? format : tensor::WeightFormat::kMxfp4;
  options.hidden_size = 1024;
  options.intermediate_size = 8192;
  options.moe_intermediate_size = 128;
  options.vocab_size = 512;
  options.num_q_heads = 64;
  options.v_head_dim = 128;
  options.sliding_layers = {0, 1, 1};
  options.moe_layers = {0, 1, 1};
  return options;
}

// One whose caches of bf16 and fp8 are tiles, too, in formats as published ones have them: FP8,
// o_proj and head BF16, experts MXFP4. A layer of each kind, and an MTP layer.
inline GeneratorOptions paged_tile_options() {
  GeneratorOptions options = paged_checkpoint(tensor::WeightFormat::kFp8Block128);
  options.output_projection_format = options.embedding_format = tensor::WeightFormat::kBf16;
  options.expert_format = tensor::WeightFormat::kMxfp4;
  options.num_q_heads = 32;  // BF16 takes half of FP8's K-chunks
  options.head_dim = 192;
  options.sliding_window = 128;
  options.sliding_layers = options.moe_layers = {0, 1};
  options.num_mtp_layers = 1;
  return options;
}

}  // namespace ultraspeed::test
