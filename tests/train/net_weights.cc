#include "train/net_weights.h"

#include "base/check.h"
#include "support/dequantize.h"

namespace ultraspeed::test {
namespace {

using model::TensorRole;

std::vector<float> load(const model::Drafter& drafter, TensorRole role, uint32_t layer) {
  const model::WeightSource source = {role, layer, 0, 0, 1, model::Stack::kDflash};
  const auto shape = drafter.shape(source);
  US_CHECK(shape.has_value(), "{}", shape.error().message);
  std::vector<std::byte> packed(shape->bytes);
  const auto status = drafter.load(source, packed);
  US_CHECK(status.has_value(), "{}", status.error().message);
  return dequantize(*shape, packed);
}

// Sets parameters that lie one behind the other in one packed matrix.
void set_rows(train::DrafterNet* net, const std::vector<float>& values,
              const std::vector<std::string>& names) {
  size_t at = 0;
  for (const std::string& name : names) {
    const auto sizes = net->at(name).sizes().vec();
    const auto count = static_cast<size_t>(net->at(name).numel());
    US_CHECK(at + count <= values.size(), "{} is too small", name);
    const auto begin = values.begin() + static_cast<ptrdiff_t>(at);
    net->set(name, tensor_of({begin, begin + static_cast<ptrdiff_t>(count)}, sizes));
    at += count;
  }
  US_CHECK(at == values.size(), "{} of {} values were taken", at, values.size());
}

}  // namespace

torch::Tensor tensor_of(const std::vector<float>& values, at::IntArrayRef shape) {
  return torch::tensor(values).view(shape);
}

train::DrafterNet net_of(const std::string& directory, const train::NetOptions& options) {
  const auto drafter = model::Drafter::open(directory);
  US_CHECK(drafter.has_value(), "{}", drafter.error().message);
  const model::DrafterConfig& config = drafter->config();
  train::DrafterNet net(config, options, 1);
  const auto set = [&](TensorRole role, uint32_t layer, const std::vector<std::string>& names) {
    set_rows(&net, load(*drafter, role, layer), names);
  };
  set(TensorRole::kFeatureProj, 0, {"fc.weight"});
  set(TensorRole::kFeatureNorm, 0, {"hidden_norm.weight"});
  set(TensorRole::kFinalNorm, 0, {"norm.weight"});
  if (config.selector.rank != 0) {
    set(TensorRole::kPredecessorProj, 0, {"selector.predecessor_proj.weight"});
    set(TensorRole::kSuccessorProj, 0, {"selector.successor_proj.weight"});
    set(TensorRole::kSelectorProj, 0, {"selector.hidden_proj.weight"});
  }
  if (config.has_mask_embedding) set(TensorRole::kMaskEmbedding, 0, {"mask_embedding"});
  for (uint32_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer), attention = prefix + "self_attn.";
    set(TensorRole::kInputNorm, layer, {prefix + "input_layernorm.weight"});
    set(TensorRole::kPostAttentionNorm, layer, {prefix + "post_attention_layernorm.weight"});
    set(TensorRole::kQProj, layer, {attention + "q_proj.weight"});
    set(TensorRole::kKvProj, layer, {attention + "k_proj.weight", attention + "v_proj.weight"});
    set(TensorRole::kOProj, layer, {attention + "o_proj.weight"});
    set(TensorRole::kQNorm, layer, {attention + "q_norm.weight"});
    set(TensorRole::kKNorm, layer, {attention + "k_norm.weight"});
    if (config.has_sink) {
      set(TensorRole::kAttentionSink, layer, {attention + "attention_sink_bias"});
    }
    set(TensorRole::kDenseGateUp, layer,
        {prefix + "mlp.gate_proj.weight", prefix + "mlp.up_proj.weight"});
    set(TensorRole::kDenseDown, layer, {prefix + "mlp.down_proj.weight"});
  }
  return net;
}

}  // namespace ultraspeed::test
