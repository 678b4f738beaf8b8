#include "train/trainer_options.h"

namespace ultraspeed::train {

std::string describe_run(const TrainerOptions& options) {
  const model::DrafterConfig& d = options.drafter;
  const LossOptions& l = options.loss;
  std::string text = fmt::format(
      "hidden {} inner {} layers {} heads {}/{} dims {}/{}/{} vocab {} block {} mask {} window {} "
      "sinks {} theta {} eps {} value scale {} target layers {} taps",
      d.hidden_size, d.intermediate_size, d.num_layers, d.num_q_heads, d.num_kv_heads, d.head_dim,
      d.v_head_dim, d.rotary_dim, d.vocab_size, d.block_size, d.mask_token_id, d.sliding_window,
      d.has_sink, d.rope_theta, d.rms_norm_eps, d.attention_value_scale, d.num_target_layers);
  for (const uint32_t tap : d.target_layer_ids) text += fmt::format(" {}", tap);
  text += fmt::format(
      "; seed {} steps {} batch {} x {} x {} lr {} muon {} x {} decay {} warm-up {} clip {} "
      "schedule {} format {} from {} compute {}",
      options.seed, options.num_steps, options.sequences_per_pass, options.passes_per_step,
      options.blocks_per_sequence, options.learning_rate, options.muon_learning_rate,
      static_cast<int>(options.muon_scale), options.muon_weight_decay, options.warmup,
      options.clip_norm, static_cast<int>(options.schedule), static_cast<int>(options.format),
      options.fp8_from, options.compute == torch::kBFloat16 ? "bf16" : "f32");
  if (d.selector.rank != 0) {
    text += fmt::format("; selector rank {} of {} loss {} chunk {}{}", d.selector.rank,
                        d.selector.num_candidates, l.selection, l.chunk_blocks,
                        options.trains_selector_alone ? " alone" : "");
  }
  if (!options.has_muon()) text += "; AdamW alone";
  if (!options.warm_start.empty()) text += fmt::format("; begins {:016x}", options.warm_start_sum);
  text += fmt::format("; features {:016x}", options.features_sum);
  return text + fmt::format("; loss {} gamma {} alpha {} ce {} tv {} kl {}",
                            static_cast<int>(l.weighting), l.gamma, l.dpace_alpha, l.cross_entropy,
                            l.total_variation, l.kl_divergence);
}

}  // namespace ultraspeed::train
