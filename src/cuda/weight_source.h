// Where the weights of a machine come from, and where they lie in a rank's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/weight_form.h"
#include "program/executor.h"
#include "program/kv_scales.h"

namespace ultraspeed::cuda {

struct WeightPlaces {
  // [WeightId], in bytes; multiples of kMatrixAlignment. The matrices of a weight follow each other
  // form_bytes() apart.
  std::vector<uint64_t> offsets;
  uint64_t size_bytes = 0;  // of the memory
};

// Each weight behind the one before.
WeightPlaces places_in_order(const program::Program& program, std::span<const WeightForm> forms);

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual WeightPlaces places(const program::Program& program,
                              std::span<const WeightForm> forms) const {
    return places_in_order(program, forms);
  }

  // Before the weights of a rank. wants_kv_scales: kv_scales() will be asked for.
  // REQUIRES: `programs` share weights and stay where they are.
  virtual Status begin_rank(std::span<const program::Program> programs, uint32_t rank,
                            bool wants_kv_scales) = 0;

  // Fills all matrices of a weight; memory: device.
  virtual Status fill(program::WeightId id, WeightForm form, std::byte* memory) = 0;

  // Of the rank, after all its weights.
  virtual program::KvScaleTable kv_scales() const = 0;
};

// Those that a reader delivers, brought into their form.
class ReadWeights final : public WeightSource {
 public:
  // REQUIRES: read_weight outlives it.
  explicit ReadWeights(const program::WeightReader& read_weight) : read_weight_(read_weight) {}

  Status begin_rank(std::span<const program::Program> programs, uint32_t rank,
                    bool wants_kv_scales) override;
  Status fill(program::WeightId id, WeightForm form, std::byte* memory) override;
  program::KvScaleTable kv_scales() const override { return kv_scales_->finish(); }

 private:
  // Matrix `index` in its form, to `out`.
  Status read(program::WeightId id, uint32_t index, WeightForm form,
              std::vector<std::byte>* canonical, std::span<std::byte> out);

  const program::WeightReader& read_weight_;
  std::span<const program::Program> programs_;
  uint32_t rank_ = 0;
  PinnedMemory staging_;                           // of several matrices, in their form
  std::vector<std::vector<std::byte>> canonical_;  // [worker]
  std::mutex kv_scales_mutex_;
  std::optional<program::KvScaleBuilder> kv_scales_;
};

}  // namespace ultraspeed::cuda
