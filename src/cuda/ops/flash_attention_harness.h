// Caches and steps in device memory for tests of attention.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/device_memory.h"
#include "cuda/flash_bound.h"
#include "cuda/ops/flash_attention.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kHeadDim = kFlashHeadDim, kValueDim = kFlashValueDim;
inline constexpr uint32_t kPagePositions = 64;

using test::check;
using test::Device;

// What a sequence has in a step: columns at context, context + 1, ...
struct Piece {
  uint32_t sequence, context, columns;
};

// A step in device memory.
class DeviceStep {
 public:
  // pages: of each sequence.
  DeviceStep(const std::vector<Piece>& pieces, const std::vector<std::vector<uint32_t>>& pages)
      : columns_(make_columns(pieces, pages)),
        pages_(join(pages)),
        view_(std::vector<StepView>{
            {static_cast<uint32_t>(num_columns_), columns_.data(), pages_.data()}}) {}
  const StepView* data() { return view_.data(); }
  uint32_t num_columns() const { return static_cast<uint32_t>(num_columns_); }

 private:
  std::vector<StepColumn> make_columns(const std::vector<Piece>& pieces,
                                       const std::vector<std::vector<uint32_t>>& pages) {
    std::vector<StepColumn> columns;
    for (const Piece& piece : pieces) {
      uint32_t first_page = 0;
      for (uint32_t i = 0; i < piece.sequence; ++i) {
        first_page += static_cast<uint32_t>(pages[i].size());
      }
      const auto first = static_cast<uint32_t>(columns.size());
      for (uint32_t i = 0; i < piece.columns; ++i) {
        StepColumn column;
        column.position = piece.context + i;
        column.sequence = piece.sequence;
        column.first_column = first;
        column.end_column = first + piece.columns;
        column.first_page = first_page;
        columns.push_back(column);
      }
    }
    num_columns_ = columns.size();
    return columns;
  }
  static std::vector<uint32_t> join(const std::vector<std::vector<uint32_t>>& pages) {
    std::vector<uint32_t> all = {0};
    all.clear();
    for (const auto& of_sequence : pages)
      all.insert(all.end(), of_sequence.begin(), of_sequence.end());
    if (all.empty()) all.push_back(0);
    return all;
  }

  uint64_t num_columns_ = 0;
  Device<StepColumn> columns_;
  Device<uint32_t> pages_;
  Device<StepView> view_;
};

// Of KV heads 0 and 1.
inline const std::vector<KvScales> kScales = {{0.5F, 0.25F}, {1, 0.5F}};

inline KvScales scales_of(KvFormat format, uint32_t kv_head) {
  return format == KvFormat::kE4m3 ? kScales[kv_head] : KvScales();
}

struct CacheShape {
  KvFormat format = KvFormat::kE4m3;
  uint32_t num_kv_heads = 1;
  uint32_t ring_positions = 0;
  uint32_t head_dim = kHeadDim, v_head_dim = kValueDim;
};

struct Sequence {
  uint32_t length;          // positions that are written
  uint32_t more_positions;  // for which there is room behind them
};

// Caches of some sequences, filled with random rows through launch_store_kv().
class Caches {
 public:
  Caches(const CacheShape& shape, const std::vector<Sequence>& sequences, std::mt19937& random)
      : shape_(shape), tile_bytes_(kv_tile_bytes(shape.format)), scales_(kScales) {
    const auto pages_of = [](const Sequence& sequence) {
      return (sequence.length + sequence.more_positions + kPagePositions - 1) / kPagePositions;
    };
    uint32_t num_pages = 3;
    for (const Sequence& sequence : sequences) num_pages += pages_of(sequence);
    std::vector<uint32_t> free(num_pages);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), random);
    for (const Sequence& sequence : sequences) {
      const uint32_t count = pages_of(sequence);
      pages.emplace_back(free.end() - count, free.end());
      free.resize(free.size() - count);
    }
    const uint64_t positions = shape.ring_positions != 0 ? sequences.size() * shape.ring_positions
                                                         : uint64_t{num_pages} * kPagePositions;
    memory_ = std::make_unique<Device<uint8_t>>(positions / 64 * shape.num_kv_heads * tile_bytes_);
    for (uint32_t i = 0; i < sequences.size(); ++i) {
      // A ring in two goes, so that no two rows of a launch are for one slot.
      const uint32_t length = sequences[i].length, ring = shape.ring_positions;
      const uint32_t begin = ring != 0 && length > 2 * ring ? length - 2 * ring : 0;
      const uint32_t middle = ring != 0 && length > ring ? length - ring + 5 : begin;
      write({i, begin, middle - begin}, random);
      write({i, middle, length - middle}, random);
    }
  }

  KvTiles tiles() {
    return {reinterpret_cast<std::byte*>(memory_->data()),
            shape_.format == KvFormat::kE4m3 ? scales_.data() : nullptr,
            shape_.num_kv_heads,
            shape_.ring_positions,
            kPagePositions,
            shape_.head_dim,
            shape_.v_head_dim};
  }
  uint32_t head_dim() const { return shape_.head_dim; }
  uint32_t v_head_dim() const { return shape_.v_head_dim; }
  KvFormat format() const { return shape_.format; }
  uint32_t num_kv_heads() const { return shape_.num_kv_heads; }

  // Random rows; nan_position: whose keys have a NaN.
  void write(const Piece& piece, std::mt19937& random, int64_t nan_position = -1) {
    if (piece.columns == 0) return;
    DeviceStep step({piece}, pages);
    Device<float> rows(random_rows(piece, random, nan_position));
    check(launch_store_kv({step.data(), piece.columns, tiles(), shape_.format, rows.data()},
                          nullptr));
    check(cudaDeviceSynchronize());
  }

  // The same rows, as attention is given those of its own step.
  std::vector<float> random_rows(const Piece& piece, std::mt19937& random,
                                 int64_t nan_position = -1) {
    std::normal_distribution<float> normal;
    std::vector<float> keys(uint64_t{piece.columns} * shape_.num_kv_heads * shape_.head_dim);
    std::vector<float> values(uint64_t{piece.columns} * shape_.num_kv_heads * shape_.v_head_dim);
    for (uint64_t i = 0; i < keys.size(); ++i) {
      const int exponent = static_cast<int>(i / shape_.head_dim % 5) - 2;
      keys[i] = std::ldexp(normal(random), exponent);
      // A few directions are large, as in trained models.
      if (i % shape_.head_dim % 61 == 3) keys[i] *= 6;
    }
    for (uint64_t i = 0; i < values.size(); ++i) {
      const int exponent = static_cast<int>(i / shape_.v_head_dim * 7 % 9) - 4;
      values[i] = std::ldexp(normal(random), exponent);
    }
    if (nan_position >= 0) {
      keys[(nan_position - piece.context) * shape_.num_kv_heads * shape_.head_dim + 17] = NAN;
    }
    last_keys = keys;
    last_values = values;
    return joined(piece.columns, keys, values);
  }

  std::vector<uint8_t> read() { return memory_->read(); }

  // Decoded by the words of tile/kv_tile.h. bytes: read().
  Cached at(const std::vector<uint8_t>& bytes, uint32_t sequence, uint32_t position,
            uint32_t head) const {
    const uint32_t ring = shape_.ring_positions;
    const uint64_t tile =
        ring != 0
            ? (uint64_t{sequence} * shape_.num_kv_heads + head) * (ring / 64) + position % ring / 64
            : uint64_t{pages[sequence][position / 64]} * shape_.num_kv_heads + head;
    const uint8_t* of_tile = bytes.data() + tile * tile_bytes_;
    const uint32_t slot = position % 64, size = shape_.format == KvFormat::kE4m3 ? 1 : 2;
    const uint32_t piece = 16 / size;
    const auto element = [&](uint64_t byte) {
      if (size == 1) return double{tensor::e4m3_to_float(of_tile[byte])};
      return double{
          tensor::bf16_to_float(static_cast<uint16_t>(of_tile[byte] | of_tile[byte + 1] << 8))};
    };
    const KvScales scales = scales_of(shape_.format, head);
    Cached cached;
    for (uint32_t d = 0; d < shape_.head_dim; ++d) {
      cached.key.push_back(scales.key *
                           element(slot / 8 * (kHeadDim / piece) * 128 + d / piece * 128 +
                                   slot % 8 * 16 + d % piece * size));
    }
    // Byte 4 t + i of 16 is position 8 (i / 2) + 2 t + i % 2.
    uint32_t place = slot % piece;
    if (size == 1) {
      for (uint32_t byte = 0; byte < 16; ++byte) {
        if (byte % 4 / 2 * 8 + byte / 4 * 2 + byte % 2 == slot % 16) place = byte;
      }
    }
    for (uint32_t d = 0; d < shape_.v_head_dim; ++d) {
      cached.value.push_back(scales.value *
                             element(64 * kHeadDim * size + d / 8 * (64 / piece) * 128 +
                                     slot / piece * 128 + d % 8 * 16 + place * size));
    }
    return cached;
  }

  std::vector<std::vector<uint32_t>> pages;  // [sequence]
  std::vector<float> last_keys, last_values;

 private:
  // [columns, keys and values].
  static std::vector<float> joined(uint32_t columns, const std::vector<float>& keys,
                                   const std::vector<float>& values) {
    std::vector<float> rows;
    for (uint32_t t = 0; t < columns; ++t) {
      for (const std::vector<float>* from : {&keys, &values}) {
        const auto size = static_cast<ptrdiff_t>(from->size() / columns);
        rows.insert(rows.end(), from->begin() + t * size, from->begin() + (t + 1) * size);
      }
    }
    return rows;
  }

  CacheShape shape_;
  uint32_t tile_bytes_;
  Device<KvScales> scales_;
  std::unique_ptr<Device<uint8_t>> memory_;
};

}  // namespace ultraspeed::cuda
