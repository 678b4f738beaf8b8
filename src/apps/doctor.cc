#include "apps/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace ultraspeed::apps {
namespace {

// A reading that is right does so much better than one that is not.
constexpr double kClearlyBetter = 1.25;

using model::DrafterConfig;

template <class Values>
std::string list(const Values& values) {
  std::string text;
  for (const auto& value : values) text += fmt::format("{}{}", text.empty() ? "" : ", ", value);
  return text;
}

// target_layer_ids moved by one, where all stay layers of the target.
void add_taps(const DrafterConfig& drafter, int shift, std::vector<Convention>* conventions) {
  std::vector<uint32_t> ids = drafter.target_layer_ids;
  if (shift < 0 && ids.front() == 0) return;
  if (shift > 0 && ids.back() + 1 >= drafter.num_target_layers) return;
  for (uint32_t& id : ids) id += static_cast<uint32_t>(shift);
  conventions->push_back(
      {fmt::format("taps after layers {} instead of {}", list(ids), list(drafter.target_layer_ids)),
       [ids](DrafterConfig* config) { config->target_layer_ids = ids; }});
}

std::set<float> rope_thetas(const model::ModelConfig& target) {
  std::set<float> thetas;
  for (const auto& layer : target.layers) thetas.insert(layer.rope.theta);
  return thetas;
}

void add_windows(const DrafterConfig& drafter, std::vector<Convention>* conventions) {
  const bool is_causal = drafter.layers.front().is_causal;
  conventions->push_back({is_causal ? "rows that look ahead in the block"
                                    : "rows that see only "
                                      "rows before them in the block",
                          [is_causal](DrafterConfig* config) {
                            for (auto& layer : config->layers) layer.is_causal = !is_causal;
                          }});
  if (drafter.sliding_window == 0) return;
  conventions->push_back({drafter.has_window_before_anchor ? "the window of each row (z-lab)"
                                                           : "the window before the anchor (MiMo)",
                          [](DrafterConfig* config) {
                            config->has_window_before_anchor = !config->has_window_before_anchor;
                          }});
}

}  // namespace

std::vector<Convention> other_conventions(const DrafterConfig& drafter,
                                          const model::ModelConfig& target) {
  std::vector<Convention> conventions;
  if (drafter.has_mask_embedding && drafter.mask_token_id < target.vocab_size) {
    conventions.push_back({fmt::format("masks from row {} of the target's table instead of "
                                       "mask_embedding.pt",
                                       drafter.mask_token_id),
                           [](DrafterConfig* config) { config->has_mask_embedding = false; }});
  }
  add_taps(drafter, -1, &conventions);
  add_taps(drafter, 1, &conventions);
  for (const float theta : rope_thetas(target)) {
    if (theta == drafter.rope_theta) continue;
    conventions.push_back(
        {fmt::format("RoPE base {} of the target instead of {}", theta, drafter.rope_theta),
         [theta](DrafterConfig* config) { config->rope_theta = theta; }});
  }
  add_windows(drafter, &conventions);
  return conventions;
}

std::string convention_table(const DrafterConfig& drafter, const model::ModelConfig& target) {
  const std::string mask = drafter.has_mask_embedding
                               ? "mask_embedding.pt"
                               : fmt::format("row {} of the target's table (no mask_embedding.pt)",
                                             drafter.mask_token_id);
  const bool knows_theta = rope_thetas(target).contains(drafter.rope_theta);
  std::string window = "none";
  if (drafter.sliding_window != 0) {
    window = fmt::format(
        "{} positions, {}", drafter.sliding_window,
        drafter.has_window_before_anchor ? "before the anchor (MiMo)" : "of each row (z-lab)");
  }
  return fmt::format(
      "taps           after layers {} of {}\n"
      "masks          token {}, from {}\n"
      "RoPE           base {}; the target's: {}{}\n"
      "block          {} rows, {}\n"
      "window         {}\n"
      "vocabulary     {} tokens, the target has {}\n",
      list(drafter.target_layer_ids), drafter.num_target_layers, drafter.mask_token_id, mask,
      drafter.rope_theta, list(rope_thetas(target)), knows_theta ? "" : " (differs)",
      drafter.block_size, drafter.layers.front().is_causal ? "causal" : "seeing each other", window,
      drafter.vocab_size, target.vocab_size);
}

Diagnosis diagnose(const Trial& as_is, const std::vector<Trial>& others) {
  const double length = as_is.stats.accepted_length();
  if (length >= kHealthyAcceptedLength) {
    return {true, std::nullopt, "the pair drafts well on these prompts"};
  }
  const Trial* best = nullptr;
  for (const Trial& other : others) {
    const double least = best == nullptr ? kClearlyBetter * length : best->stats.accepted_length();
    if (other.stats.accepted_length() > least) best = &other;
  }
  if (best != nullptr) {
    return {
        false, best->name,
        fmt::format("the drafter fits with {}: accepted length {:.2f} instead of {:.2f}; correct "
                    "its files",
                    best->name, best->stats.accepted_length(), length)};
  }
  return {false, std::nullopt,
          "few drafts are accepted, and no other convention tried is better: a drafter of another "
          "target, or prompts unlike its training (chat form, thinking); see docs/drafters.md"};
}

}  // namespace ultraspeed::apps
