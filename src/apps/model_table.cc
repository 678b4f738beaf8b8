#include "apps/model_table.h"

#include <fmt/format.h>

#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "apps/folder_check.h"
#include "base/progress.h"

namespace ultraspeed::apps {
namespace {

using model::LayerConfig;
using model::ModelConfig;
using model::TensorRole;

std::string format_count(uint64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e12) return fmt::format("{:.2f} T", value / 1e12);
  if (value >= 1e9) return fmt::format("{:.1f} B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

std::string joined(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (const uint32_t number : numbers) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", number);
  }
  return text.empty() ? "none" : text;
}

std::string describe_layer(const LayerConfig& layer, const ModelConfig& config) {
  const std::string reach =
      layer.sliding_window == 0 ? "full" : fmt::format("window {}", layer.sliding_window);
  const std::string ffn = layer.is_moe
                              ? fmt::format("{} of {} experts of {}", config.num_experts_per_token,
                                            config.num_experts, config.moe_intermediate_size)
                              : fmt::format("dense {}", config.intermediate_size);
  const std::string rope = fmt::format("rope {} at {:.0f}{}", layer.rotary_dim, layer.rope.theta,
                                       layer.has_sink ? ", sink" : "");
  return fmt::format("{:<12}{:>4} q, {:>2} kv heads of {}/{}, {:<28}{}", reach, layer.num_q_heads,
                     layer.num_kv_heads, layer.head_dim, layer.v_head_dim, rope, ffn);
}

// "layers 1-2    window 128 ...", one line a run of equal layers.
void append_layers(const ModelConfig& config, std::string* text) {
  const auto out = std::back_inserter(*text);
  uint32_t begin = 0;
  for (uint32_t i = 0; i < config.num_layers(); ++i) {
    const std::string description = describe_layer(config.layers[i], config);
    const bool is_last = i + 1 == config.num_layers();
    if (!is_last && describe_layer(config.layers[i + 1], config) == description) continue;
    const std::string run = begin == i ? fmt::format("{}", i) : fmt::format("{}-{}", begin, i);
    fmt::format_to(out, "layer {:<10}{}\n", run, description);
    begin = i + 1;
  }
}

std::string describe_sampling(const model::GenerationConfig& generation) {
  if (!generation.do_sample || generation.temperature == 0) return "greedy";
  std::string text = fmt::format("temperature {:g}", generation.temperature);
  if (generation.top_p < 1) text += fmt::format(", top_p {:g}", generation.top_p);
  if (generation.top_k > 0) text += fmt::format(", top_k {}", generation.top_k);
  if (generation.min_p > 0) text += fmt::format(", min_p {:g}", generation.min_p);
  return text;
}

void append_configuration(const ModelFolder& folder, std::string* text) {
  const ModelConfig& config = folder.config;
  const model::ParameterCount parameters = model::count_parameters(config);
  const auto out = std::back_inserter(*text);
  const auto line = [&out](std::string_view name, std::string_view value) {
    fmt::format_to(out, "{:<16}{}\n", name, value);
  };
  line("model", folder.directory);
  line("type", config.model_type);
  line("parameters", fmt::format("{}, {} of them active for a token",
                                 format_count(parameters.total), format_count(parameters.active)));
  line("layers", fmt::format("{}", config.num_layers()));
  line("hidden size", fmt::format("{}", config.hidden_size));
  line("vocabulary", fmt::format("{}{}", config.vocab_size,
                                 config.tie_word_embeddings ? ", tied embeddings" : ""));
  line("context", fmt::format("{}", config.max_position_embeddings));
  line("value scale", fmt::format("{:g}", config.attention_value_scale));
  line("qkv", config.qkv_layout == model::QkvLayout::kSplit
                  ? std::string("split")
                  : fmt::format("fused, rank-major in {} chunks", config.qkv_chunks));
  line("stop tokens", joined(model::stop_token_ids(config, folder.generation)));
  line("sampling", describe_sampling(folder.generation));
  line("tokenizer", folder.has_tokenizer
                        ? "yes"
                        : describe_missing_tokenizer(folder.directory) + "; use --prompt-ids");
  line("chat template", folder.chat_template);
}

// The matrices of one role in one format.
struct WeightGroup {
  uint64_t matrices = 0;
  uint64_t elements = 0;
  uint64_t bytes = 0;
  model::WeightShape shape;  // of the first
  bool is_uniform = true;
};

Status append_weights(const ModelFolder& folder, std::string* text) {
  std::map<std::pair<TensorRole, tensor::WeightFormat>, WeightGroup> groups;
  WeightGroup total;
  for (const model::WeightSource& source : model::all_weights(folder.config, 0, 1)) {
    US_ASSIGN(const model::WeightShape shape, folder.shape(source));
    for (WeightGroup* group : {&groups[{source.role, shape.format}], &total}) {
      if (group->matrices == 0) group->shape = shape;
      group->is_uniform = group->is_uniform && group->shape == shape;
      ++group->matrices;
      group->elements += uint64_t{shape.rows} * shape.columns;
      group->bytes += shape.bytes;
    }
  }
  const auto out = std::back_inserter(*text);
  fmt::format_to(out, "\n{:<22}{:>9} {:>15} {:>10} {:>9}  {}\n", "weights", "matrices", "shape",
                 "elements", "bytes", "format");
  const auto row = [&out](std::string_view name, const WeightGroup& group, std::string_view shape,
                          std::string_view format) {
    fmt::format_to(out, "{:<22}{:>9} {:>15} {:>10} {:>9}{}\n", name, group.matrices, shape,
                   format_count(group.elements), format_bytes(static_cast<double>(group.bytes)),
                   format);
  };
  for (const auto& [key, group] : groups) {
    const std::string shape = group.is_uniform
                                  ? fmt::format("{} x {}", group.shape.rows, group.shape.columns)
                                  : std::string("various");
    row(model::tensor_role_name(key.first), group, shape,
        fmt::format("  {}", tensor::weight_format_name(key.second)));
  }
  row("total", total, "", "");
  return {};
}

void append_files(const ModelFolder& folder, std::string* text) {
  const auto out = std::back_inserter(*text);
  if (!folder.checkpoint) {
    fmt::format_to(out, "\nno safetensors files: the formats are what config.json lets expect\n");
    return;
  }
  const model::CheckpointContents contents = folder.checkpoint->contents();
  fmt::format_to(out, "\n{:<22}{:>9} {:>37}\n", "files", "tensors", "bytes");
  const auto row = [&out](std::string_view name, const model::CheckpointContents::Part& part) {
    if (part.num_tensors == 0) return;
    fmt::format_to(out, "{:<22}{:>9} {:>37}\n", name, part.num_tensors,
                   format_bytes(static_cast<double>(part.bytes)));
  };
  row("backbone", contents.backbone);
  row(fmt::format("mtp ({} layers)", contents.num_mtp_layers), contents.mtp);
  row("drafter", contents.drafter);
  row("other (not used)", contents.other);
  fmt::format_to(out, "in {} file(s)\n", folder.checkpoint->files().size());
}

}  // namespace

Result<std::string> model_table(const ModelFolder& folder) {
  std::string text;
  append_configuration(folder, &text);
  append_layers(folder.config, &text);
  US_TRY(append_weights(folder, &text));
  append_files(folder, &text);
  if (folder.drafter) text.append("\n").append(drafter_table(*folder.drafter));
  return text;
}

std::string drafter_table(const model::DrafterConfig& drafter) {
  return fmt::format(
      "drafter         {}\n"
      "parameters      {}\n"
      "layers          {}, hidden {}, {} q, {} kv heads of {}/{}, window {}\n"
      "draft block     {} rows, mask token {}, after target layers {}\n",
      drafter.file, format_count(model::count_parameters(drafter)), drafter.num_layers,
      drafter.hidden_size, drafter.num_q_heads, drafter.num_kv_heads, drafter.head_dim,
      drafter.v_head_dim, drafter.sliding_window, drafter.block_size, drafter.mask_token_id,
      joined(drafter.target_layer_ids));
}

}  // namespace ultraspeed::apps
