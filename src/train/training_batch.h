// Texts and their blocks as the tensors of one pass.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "train/block_sampler.h"
#include "train/drafter_net.h"
#include "train/feature_shard.h"

namespace ultraspeed::train {

// On the host, as read.
struct PackedBatch {
  torch::Tensor features;        // BF16 [rows, taps * hidden_size]
  torch::Tensor last_hidden;     // BF16 [rows, hidden_size]
  torch::Tensor positions;       // i64 [rows]
  torch::Tensor sequence_begin;  // i64 [blocks]
  torch::Tensor anchor_row;      // i64 [blocks]
  torch::Tensor anchor_ids;      // i64 [blocks]
  torch::Tensor labels;          // i64 [blocks, masks]
  torch::Tensor is_valid;        // f32 [blocks, masks]
  torch::Tensor teacher_rows;    // i64 [blocks, masks]: the row whose last hidden gives the label

  int64_t num_rows() const { return features.size(0); }
  int64_t num_blocks() const { return anchor_row.size(0); }
};

class BatchPacker {
 public:
  BatchPacker(const FeatureShape& shape, uint32_t block_size);
  // Those of `blocks` that are kept. REQUIRES: of the sequence, masks as `block_size` has.
  void add(const FeatureSequence& sequence, const SampledBlocks& blocks);
  PackedBatch pack() const;

 private:
  int64_t feature_size_, hidden_size_, num_masks_;
  std::vector<uint16_t> features_, last_hidden_;
  std::vector<int64_t> positions_, sequence_begin_, anchor_row_, anchor_ids_, labels_;
  std::vector<int64_t> teacher_rows_;
  std::vector<float> is_valid_;
};

// On the net's device.
struct TrainingBatch {
  BlockBatch blocks;
  torch::Tensor anchor_ids;  // i64 [blocks]
  torch::Tensor labels;      // i64 [blocks, masks]
  torch::Tensor is_valid;    // f32 [blocks, masks]
  torch::Tensor teacher;     // BF16 [blocks, masks, hidden_size]; undefined without teacher
};

// `embedding`: the target's, [vocab_size, hidden_size], on the device.
TrainingBatch place(const PackedBatch& packed, const torch::Tensor& embedding, bool needs_teacher);

// The order in which a run takes its texts: each epoch all of them, shuffled by (seed, epoch).
class SequenceOrder {
 public:
  SequenceOrder(uint64_t seed, size_t num_sequences);
  // The text of the slot-th place of the run.
  uint32_t at(uint64_t slot);

 private:
  void shuffle(uint64_t epoch);

  uint64_t seed_;
  uint64_t epoch_ = 0;
  std::vector<uint32_t> order_;
};

}  // namespace ultraspeed::train
