#include "model/tensor_names.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace ultraspeed::model {
namespace {

constexpr std::string_view kMtpPrefix = "model.mtp.";
constexpr std::string_view kMtpLayerPrefix = "model.mtp.layers.";
constexpr std::array<std::string_view, 4> kBackbonePrefixes = {
    "model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."};
constexpr std::array<std::string_view, 5> kDrafterPrefixes = {"layers.", "fc.", "hidden_norm.",
                                                              "norm.", "selector."};

template <size_t kCount>
bool has_prefix(std::string_view name, const std::array<std::string_view, kCount>& prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

}  // namespace

std::string layer_name(uint32_t layer, std::string_view name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

std::string drafter_layer_name(uint32_t layer, std::string_view name) {
  return fmt::format("layers.{}.{}", layer, name);
}

std::string mtp_layer_name(uint32_t layer, std::string_view name) {
  return fmt::format("{}{}.{}", kMtpLayerPrefix, layer, name);
}

std::string expert_name(uint32_t layer, uint32_t expert, std::string_view name) {
  return fmt::format("model.layers.{}.mlp.experts.{}.{}", layer, expert, name);
}

TensorNameInfo classify_tensor_name(std::string_view name) {
  if (name.starts_with(kMtpPrefix)) {
    TensorNameInfo info = {TensorOwner::kMtp, 0};
    if (name.starts_with(kMtpLayerPrefix)) {
      name.remove_prefix(kMtpLayerPrefix.size());
      std::from_chars(name.data(), name.data() + name.size(), info.mtp_layer);
    }
    return info;
  }
  if (has_prefix(name, kBackbonePrefixes)) return {TensorOwner::kBackbone, 0};
  if (has_prefix(name, kDrafterPrefixes)) return {TensorOwner::kDrafter, 0};
  return {};
}

}  // namespace ultraspeed::model
