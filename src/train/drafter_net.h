// A DFlash drafter in tensors, so that it can be trained: what the engine's draft and context parts
// compute (plan/lower_draft.cc), for many blocks at once. Parameters are in a master type; matrix
// products run in a compute type, norms, softmax and the residual in the master type. Rounding is
// to FP8.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "train/net_functions.h"
#include "train/net_parameters.h"

namespace ultraspeed::train {

// What a forward pass reads. Sequences lie one behind the other in `features`, each from its
// position 0 on.
struct BlockBatch {
  torch::Tensor features;        // [rows, taps * hidden_size], rows > 0
  torch::Tensor positions;       // i64 [rows]: each row's in its own sequence
  torch::Tensor sequence_begin;  // i64 [blocks]: the first row of the block's sequence
  torch::Tensor anchor_row;      // i64 [blocks]: the row of the anchor, which the block cannot see
  torch::Tensor anchors;         // [blocks, hidden_size]: the embeddings of the anchors' tokens
  torch::Tensor mask;            // [hidden_size]: of a drafter without a mask embedding of its own

  int64_t num_blocks() const { return anchor_row.size(0); }
};

// Errors: kUnsupported for what the net has no arithmetic for: rows of a block that do not see each
// other, and a window that is not the positions before the anchor.
Status check_trainable(const model::DrafterConfig& config);

class DrafterNet {
 public:
  // Random weights, a function of `seed`: matrices of variance 1 / columns, those that write to the
  // residual less, by the number of layers; norms 1, sinks, the mask embedding and
  // what a selector multiplies successors with 0.
  // REQUIRES: check_trainable(config).
  DrafterNet(const model::DrafterConfig& config, const NetOptions& options, uint64_t seed);

  // The blocks' rows after the final norm: [blocks, block_size, hidden_size] in the master type.
  torch::Tensor forward(const BlockBatch& batch) const;

  const model::DrafterConfig& config() const { return config_; }
  const NetOptions& options() const { return options_; }
  // By the names of the drafter's files; "mask_embedding" is a file of its own.
  std::vector<Parameter>& parameters() { return parameters_.all(); }
  const std::vector<Parameter>& parameters() const { return parameters_.all(); }
  void set_rounding(bool rounds) { options_.rounds = rounds; }
  const torch::Tensor& at(const std::string& name) const { return parameters_.at(name); }
  void set(const std::string& name, const torch::Tensor& value) { parameters_.set(name, value); }

 private:
  struct KeyValue {
    torch::Tensor keys, values;  // [..., kv heads, head_dim], [..., kv heads, v_head_dim]
  };
  struct Passage;

  void add_layer(uint32_t layer);
  void add_selector();
  torch::Tensor effective(const Parameter& matrix) const;
  torch::Tensor linear(const std::string& name, const torch::Tensor& x,
                       const Passage& passage) const;
  torch::Tensor norm(const std::string& name, const torch::Tensor& x) const;
  Rotation rotation(const torch::Tensor& positions) const;
  torch::Tensor block_rows(const BlockBatch& batch) const;
  KeyValue key_value(const std::string& attention, const torch::Tensor& x, const Rotation& rotation,
                     const Passage& passage) const;
  torch::Tensor attend(uint32_t layer, const torch::Tensor& x, const Passage& passage) const;
  torch::Tensor feed_forward(const std::string& layer, const torch::Tensor& x,
                             const Passage& passage) const;

  model::DrafterConfig config_;
  NetOptions options_;
  ParameterSet parameters_;
};

}  // namespace ultraspeed::train
