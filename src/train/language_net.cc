#include "train/language_net.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "model/tensor_names.h"
#include "train/expert_layer.h"
#include "train/mxfp4_rounding.h"

namespace ultraspeed::train {
namespace {

constexpr std::string_view kExperts = "mlp.experts.";

constexpr std::string_view kRouterPart = "mlp.gate.";  // of names: matrix and bias

std::string in_layer(uint32_t layer, std::string_view name) {
  return model::layer_name(layer, name);
}

std::string expert_stack(uint32_t layer, std::string_view module) {
  return in_layer(layer, fmt::format("{}{}", kExperts, module));
}

// A bool [length, length]: what the row's token does not see.
torch::Tensor hidden_keys(int64_t length, int64_t window, const torch::Device& device) {
  const torch::Tensor position = torch::arange(length, torch::dtype(torch::kInt64).device(device));
  const torch::Tensor age = position.unsqueeze(1) - position.unsqueeze(0);
  const torch::Tensor is_later = age < 0;
  return window == 0 ? is_later : is_later.logical_or(age >= window);
}

}  // namespace

// What the layers of one forward pass have in common, each as [full, sliding].
struct LanguageNet::Passage {
  std::array<Rotation, 2> rotation;
  std::array<torch::Tensor, 2> is_hidden;
};

bool is_expert(const Parameter& parameter) {
  return parameter.name.find(kExperts) != std::string::npos;
}

bool is_router(const Parameter& parameter) {
  return parameter.name.find(kRouterPart) != std::string::npos;
}

LanguageNet::LanguageNet(const model::ModelConfig& config, const NetOptions& options, uint64_t seed)
    : config_(config), options_(options), parameters_(options) {
  const int64_t hidden = config.hidden_size, vocab = config.vocab_size;
  const auto weight = [](std::string_view module) {
    return fmt::format("{}{}", module, model::kWeightSuffix);
  };
  parameters_.add(weight(model::kEmbeddingModule), ParameterKind::kVector,
                  torch::empty({vocab, hidden}));
  for (uint32_t layer = 0; layer < config.num_layers(); ++layer) add_layer(layer);
  parameters_.add(weight(model::kFinalNormModule), ParameterKind::kVector, torch::ones({hidden}));
  parameters_.add(weight(model::kLmHeadModule), ParameterKind::kVector,
                  torch::empty({vocab, hidden}));
  randomize(seed);
}

void LanguageNet::add_layer(uint32_t layer) {
  const model::LayerConfig& l = config_.layers[layer];
  const int64_t hidden = config_.hidden_size, dense = config_.intermediate_size;
  const int64_t experts = config_.num_experts, inner = config_.moe_intermediate_size;
  const auto add = [&](std::string_view module, ParameterKind kind, const torch::Tensor& value) {
    parameters_.add(in_layer(layer, fmt::format("{}{}", module, model::kWeightSuffix)), kind,
                    value);
  };
  const auto matrix = [&](std::string_view module, const std::vector<int64_t>& sizes) {
    add(module, ParameterKind::kMatrix, torch::empty(sizes));
  };
  add(model::kInputNormModule, ParameterKind::kVector, torch::ones({hidden}));
  add(model::kPostAttentionNormModule, ParameterKind::kVector, torch::ones({hidden}));
  matrix(model::kQModule, {l.q_rows(), hidden});
  matrix(model::kKModule, {l.k_rows(), hidden});
  matrix(model::kVModule, {l.v_rows(), hidden});
  matrix(model::kOModule, {hidden, l.attention_output_size()});
  if (l.has_sink) {
    parameters_.add(in_layer(layer, model::kSinkParameter), ParameterKind::kVector,
                    torch::zeros({l.num_q_heads}));
  }
  if (!l.is_moe) {
    matrix(model::kDenseGateModule, {dense, hidden});
    matrix(model::kDenseUpModule, {dense, hidden});
    matrix(model::kDenseDownModule, {hidden, dense});
    return;
  }
  add(model::kRouterModule, ParameterKind::kVector, torch::empty({experts, hidden}));
  parameters_.add(in_layer(layer, model::kRouterBiasParameter), ParameterKind::kState,
                  torch::zeros({experts}));
  const auto stack = [&](std::string_view module, const std::vector<int64_t>& sizes) {
    matrix(fmt::format("{}{}", kExperts, module), sizes);
  };
  stack(model::kExpertGateModule, {experts, inner, hidden});
  stack(model::kExpertUpModule, {experts, inner, hidden});
  stack(model::kExpertDownModule, {experts, hidden, inner});
}

// Matrices of variance 1 / columns; those that write to the residual less, by the number of layers.
void LanguageNet::randomize(uint64_t seed) {
  for (size_t i = 0; i < parameters().size(); ++i) {
    const Parameter& parameter = parameters()[i];
    if (parameter.value.dim() < 2) continue;
    double scale = 1 / std::sqrt(static_cast<double>(parameter.value.size(-1)));
    const bool writes_residual = parameter.name.find("o_proj") != std::string::npos ||
                                 parameter.name.find("down_proj") != std::string::npos;
    if (writes_residual) scale /= std::sqrt(2.0 * config_.num_layers());
    set(parameter.name, random_normal(parameter.value.sizes(), seed + i) * scale);
  }
}

torch::Tensor LanguageNet::linear(const std::string& module, const torch::Tensor& x) const {
  const torch::Tensor matrix = at(fmt::format("{}{}", module, model::kWeightSuffix));
  return torch::matmul(x.to(options_.compute), matrix.to(options_.compute).t()).to(options_.master);
}

torch::Tensor LanguageNet::norm(const std::string& module, const torch::Tensor& x) const {
  return rms_norm(x, at(fmt::format("{}{}", module, model::kWeightSuffix)),
                  static_cast<double>(config_.rms_norm_eps));
}

torch::Tensor LanguageNet::attend(uint32_t layer, const torch::Tensor& x,
                                  const Passage& passage) const {
  const model::LayerConfig& l = config_.layers[layer];
  const auto name = [&](std::string_view module) { return in_layer(layer, module); };
  const int64_t texts = x.size(0), length = x.size(1);
  const int64_t kv_heads = l.num_kv_heads, group = l.num_q_heads / kv_heads;
  const Rotation& rotation = passage.rotation[l.is_sliding ? 1 : 0];
  const auto heads = [&](std::string_view module, int64_t count) {
    return linear(name(module), x).view({texts, length, count, -1});
  };
  // [texts, kv heads, ...]: query heads of a kv head stand together as the rows of one product.
  const torch::Tensor query = (rotate(heads(model::kQModule, l.num_q_heads), rotation) /
                               std::sqrt(static_cast<double>(l.head_dim)))
                                  .to(options_.compute)
                                  .view({texts, length, kv_heads, group, -1})
                                  .permute({0, 2, 3, 1, 4})
                                  .reshape({texts, kv_heads, group * length, -1});
  const torch::Tensor keys =
      rotate(heads(model::kKModule, kv_heads), rotation).to(options_.compute).permute({0, 2, 3, 1});
  const torch::Tensor values =
      (heads(model::kVModule, kv_heads) * static_cast<double>(config_.attention_value_scale))
          .to(options_.compute)
          .permute({0, 2, 1, 3});
  // The largest tensors here stay in the compute type, in which softmax adds up in f32.
  torch::Tensor scores = query.matmul(keys)
                             .view({texts, kv_heads, group, length, length})
                             .masked_fill(passage.is_hidden[l.is_sliding ? 1 : 0],
                                          -std::numeric_limits<double>::infinity());
  if (l.has_sink) {
    const torch::Tensor sinks = at(name(model::kSinkParameter))
                                    .to(options_.compute)
                                    .view({1, kv_heads, group, 1, 1})
                                    .expand({texts, kv_heads, group, length, 1});
    scores = torch::cat({scores, sinks}, -1);
  }
  const torch::Tensor shares = scores.softmax(-1).narrow(-1, 0, length);
  const torch::Tensor output = shares.reshape({texts, kv_heads, group * length, length})
                                   .matmul(values)
                                   .view({texts, kv_heads, group, length, -1})
                                   .permute({0, 3, 1, 2, 4})
                                   .reshape({texts, length, -1});
  return linear(name(model::kOModule), output);
}

torch::Tensor LanguageNet::dense(uint32_t layer, const torch::Tensor& x) const {
  const torch::Tensor gate = torch::silu(linear(in_layer(layer, model::kDenseGateModule), x));
  const torch::Tensor up = linear(in_layer(layer, model::kDenseUpModule), x);
  return linear(in_layer(layer, model::kDenseDownModule), gate * up);
}

torch::Tensor LanguageNet::expert_matrix(uint32_t layer, std::string_view module) const {
  const torch::Tensor& masters =
      at(expert_stack(layer, fmt::format("{}{}", module, model::kWeightSuffix)));
  return (options_.rounds ? round_to_mxfp4(masters) : masters).to(options_.compute);
}

torch::Tensor LanguageNet::experts(uint32_t layer, const torch::Tensor& x,
                                   std::vector<torch::Tensor>* loads) const {
  const torch::Tensor rows = x.flatten(0, 1);
  const torch::Tensor& router =
      at(in_layer(layer, fmt::format("{}{}", model::kRouterModule, model::kWeightSuffix)));
  const Routing routing =
      route(rows.matmul(router.t()), at(in_layer(layer, model::kRouterBiasParameter)),
            config_.num_experts_per_token);
  const ExpertWeights weights = {expert_matrix(layer, model::kExpertGateModule),
                                 expert_matrix(layer, model::kExpertUpModule),
                                 expert_matrix(layer, model::kExpertDownModule)};
  const ExpertOutput output = apply_experts(rows, routing, weights);
  loads->push_back(output.load);
  return output.output.view(x.sizes());
}

LanguageOutput LanguageNet::forward(const torch::Tensor& ids) const {
  const int64_t length = ids.size(1);
  const torch::Tensor positions = torch::arange(length, ids.options());
  Passage passage;
  for (const model::LayerConfig& l : config_.layers) {
    const size_t kind = l.is_sliding ? 1 : 0;
    if (passage.is_hidden[kind].defined()) continue;
    passage.is_hidden[kind] = hidden_keys(length, l.sliding_window, options_.device);
    passage.rotation[kind] =
        make_rotation(positions, l.rotary_dim, static_cast<double>(l.rope.theta), options_.master);
  }
  LanguageOutput output;
  const std::string embedding = fmt::format("{}{}", model::kEmbeddingModule, model::kWeightSuffix);
  torch::Tensor hidden = torch::embedding(at(embedding), ids);
  for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
    hidden =
        hidden + attend(layer, norm(in_layer(layer, model::kInputNormModule), hidden), passage);
    const torch::Tensor x = norm(in_layer(layer, model::kPostAttentionNormModule), hidden);
    hidden = hidden +
             (config_.layers[layer].is_moe ? experts(layer, x, &output.loads) : dense(layer, x));
  }
  output.hidden = norm(std::string(model::kFinalNormModule), hidden);
  return output;
}

torch::Tensor LanguageNet::logits(const torch::Tensor& hidden) const {
  return linear(std::string(model::kLmHeadModule), hidden);
}

void LanguageNet::balance(const std::vector<torch::Tensor>& loads, double rate) {
  const torch::NoGradGuard no_grad;
  size_t next = 0;
  for (uint32_t layer = 0; layer < config_.num_layers(); ++layer) {
    if (!config_.layers[layer].is_moe) continue;
    const torch::Tensor load = loads[next++].to(options_.master);
    torch::Tensor bias = at(in_layer(layer, model::kRouterBiasParameter));
    bias.add_((load.mean() - load).sign(), rate);
  }
}

torch::Tensor LanguageNet::exported(const Parameter& parameter) const {
  const torch::NoGradGuard no_grad;
  const torch::Tensor value = parameter.value.detach();
  if (is_router(parameter)) return value.clone();
  if (options_.rounds && is_expert(parameter)) return round_to_mxfp4(value);
  return value.to(torch::kBFloat16).to(value.scalar_type());
}

}  // namespace ultraspeed::train
