// A language model of the MiMo-V2 family in tensors, so that it can be trained: what the engine's
// programs compute (plan/lower.cc). Parameters are in a master type; matrix products run in a
// compute type, norms, routing and the residual in the master type. Rounding is that of experts, to
// MXFP4.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "train/net_functions.h"
#include "train/net_parameters.h"

namespace ultraspeed::train {

struct LanguageOutput {
  torch::Tensor hidden;              // [texts, length, hidden_size] after the final norm, master
  std::vector<torch::Tensor> loads;  // of each layer with experts: i64 [experts], tokens of each
};

class LanguageNet {
 public:
  // Random weights, a function of `seed`. REQUIRES: a config of language_config().
  LanguageNet(const model::ModelConfig& config, const NetOptions& options, uint64_t seed);

  // ids: i64 [texts, length], each text from its position 0 on.
  LanguageOutput forward(const torch::Tensor& ids) const;
  // Logits of rows [..., hidden_size], in the master type.
  torch::Tensor logits(const torch::Tensor& hidden) const;

  // Moves the routers' biases by `rate` towards equal loads (DeepSeek-V3's balancing without a
  // loss of its own).
  void balance(const std::vector<torch::Tensor>& loads, double rate);

  // Of a weight matrix in the checkpoint, or of all experts' one behind the other, [experts, rows,
  // columns]: "model.layers.3.mlp.experts.gate_proj.weight".
  std::vector<Parameter>& parameters() { return parameters_.all(); }
  const std::vector<Parameter>& parameters() const { return parameters_.all(); }
  const torch::Tensor& at(const std::string& name) const { return parameters_.at(name); }
  void set(const std::string& name, const torch::Tensor& value) { parameters_.set(name, value); }

  const model::ModelConfig& config() const { return config_; }
  const NetOptions& options() const { return options_; }
  void set_rounding(bool rounds) { options_.rounds = rounds; }
  void set_compute(torch::Dtype compute) { options_.compute = compute; }

  // The numbers that an export of the net holds: experts rounded to MXFP4 if the net rounds,
  // routers as they are, all else in BF16.
  torch::Tensor exported(const Parameter& parameter) const;

 private:
  struct Passage;

  void add_layer(uint32_t layer);
  void randomize(uint64_t seed);
  torch::Tensor linear(const std::string& module, const torch::Tensor& x) const;
  torch::Tensor norm(const std::string& module, const torch::Tensor& x) const;
  torch::Tensor attend(uint32_t layer, const torch::Tensor& x, const Passage& passage) const;
  torch::Tensor dense(uint32_t layer, const torch::Tensor& x) const;
  torch::Tensor experts(uint32_t layer, const torch::Tensor& x,
                        std::vector<torch::Tensor>* loads) const;
  torch::Tensor expert_matrix(uint32_t layer, std::string_view module) const;

  model::ModelConfig config_;
  NetOptions options_;
  ParameterSet parameters_;
};

// Whether it is a stack of expert matrices, and whether of a router.
bool is_expert(const Parameter& parameter);
bool is_router(const Parameter& parameter);

}  // namespace ultraspeed::train
