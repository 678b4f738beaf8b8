#include "train/training_batch.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/philox.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kOrderStream = uint64_t{1} << 63;  // steps and sequences of blocks stay below

torch::Tensor bf16_tensor(const std::vector<uint16_t>& bits, int64_t columns) {
  const auto rows = static_cast<int64_t>(bits.size()) / columns;
  torch::Tensor tensor = torch::empty({rows, columns}, torch::kBFloat16);
  if (!bits.empty()) std::memcpy(tensor.data_ptr(), bits.data(), bits.size() * sizeof(uint16_t));
  return tensor;
}

torch::Tensor int_tensor(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

}  // namespace

BatchPacker::BatchPacker(const FeatureShape& shape, uint32_t block_size)
    : feature_size_(static_cast<int64_t>(shape.hidden_size * shape.num_taps())),
      hidden_size_(shape.hidden_size),
      num_masks_(int64_t{block_size} - 1) {}

void BatchPacker::add(const FeatureSequence& sequence, const SampledBlocks& blocks) {
  const auto begin = static_cast<int64_t>(positions_.size());
  const auto length = static_cast<int64_t>(sequence.token_ids.size());
  const auto masks = static_cast<size_t>(num_masks_);
  US_CHECK(blocks.labels.size() == blocks.anchors.size() * masks, "{} labels of {} blocks",
           blocks.labels.size(), blocks.anchors.size());
  features_.insert(features_.end(), sequence.features.begin(), sequence.features.end());
  last_hidden_.insert(last_hidden_.end(), sequence.last_hidden.begin(), sequence.last_hidden.end());
  for (int64_t i = 0; i < length; ++i) positions_.push_back(i);
  for (size_t block = 0; block < blocks.anchors.size(); ++block) {
    if (blocks.keep[block] == 0) continue;
    const int64_t anchor = blocks.anchors[block];
    sequence_begin_.push_back(begin);
    anchor_row_.push_back(begin + anchor);
    anchor_ids_.push_back(sequence.token_ids[static_cast<size_t>(anchor)]);
    for (size_t mask = 0; mask < masks; ++mask) {
      labels_.push_back(blocks.labels[block * masks + mask]);
      is_valid_.push_back(blocks.weights[block * masks + mask]);
      const int64_t before = anchor + static_cast<int64_t>(mask);
      teacher_rows_.push_back(begin + std::min(before, length - 1));
    }
  }
}

PackedBatch BatchPacker::pack() const {
  PackedBatch batch;
  batch.features = bf16_tensor(features_, feature_size_);
  batch.last_hidden = bf16_tensor(last_hidden_, hidden_size_);
  batch.positions = int_tensor(positions_);
  batch.sequence_begin = int_tensor(sequence_begin_);
  batch.anchor_row = int_tensor(anchor_row_);
  batch.anchor_ids = int_tensor(anchor_ids_);
  batch.labels = int_tensor(labels_).view({-1, num_masks_});
  batch.is_valid = torch::tensor(is_valid_).view({-1, num_masks_});
  batch.teacher_rows = int_tensor(teacher_rows_).view({-1, num_masks_});
  return batch;
}

TrainingBatch place(const PackedBatch& packed, const torch::Tensor& embedding, bool needs_teacher) {
  const torch::Device device = embedding.device();
  TrainingBatch batch;
  batch.blocks.features = packed.features.to(device, /*non_blocking=*/true);
  batch.blocks.positions = packed.positions.to(device);
  batch.blocks.sequence_begin = packed.sequence_begin.to(device);
  batch.blocks.anchor_row = packed.anchor_row.to(device);
  batch.anchor_ids = packed.anchor_ids.to(device);
  batch.blocks.anchors = embedding.index_select(0, batch.anchor_ids);
  batch.labels = packed.labels.to(device);
  batch.is_valid = packed.is_valid.to(device);
  if (needs_teacher) {
    std::vector<int64_t> shape = packed.labels.sizes().vec();
    shape.push_back(packed.last_hidden.size(1));
    batch.teacher = packed.last_hidden.to(device, /*non_blocking=*/true)
                        .index_select(0, packed.teacher_rows.flatten().to(device))
                        .view(shape);
  }
  return batch;
}

SequenceOrder::SequenceOrder(uint64_t seed, size_t num_sequences)
    : seed_(seed), order_(num_sequences) {
  US_CHECK(num_sequences > 0, "no sequences");
  shuffle(0);
}

void SequenceOrder::shuffle(uint64_t epoch) {
  epoch_ = epoch;
  std::iota(order_.begin(), order_.end(), 0u);
  for (size_t i = 0; i + 1 < order_.size(); ++i) {
    const uint64_t bits = random_bits(seed_, kOrderStream | epoch, static_cast<uint32_t>(i));
    std::swap(order_[i], order_[i + static_cast<size_t>(bits * (order_.size() - i) >> 32)]);
  }
}

uint32_t SequenceOrder::at(uint64_t slot) {
  if (slot / order_.size() != epoch_) shuffle(slot / order_.size());
  return order_[slot % order_.size()];
}

}  // namespace ultraspeed::train
