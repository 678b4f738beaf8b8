// What the finishing warps of dense.cuh do with sums (dense.h). Each is two functions: load()
// before the sums are there, store() of both rows' sums.
#pragma once

#include <cstdint>

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dense.h"
#include "cuda/ops/math.cuh"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {

// Whose sums. A warp's lanes have neighbouring pairs of a tile, from a multiple of 32 on.
struct DensePlace {
  uint32_t rows = 0;    // of the matrix
  uint32_t pair = 0;    // of its rows
  uint32_t part = 0;    // of the unit: a K-chunk, or an expert's slot
  uint32_t column = 0;  // of the step
};

struct NothingLoaded {};

inline __device__ void store_pair(float* at, float first, float second) {
  *reinterpret_cast<float2*>(at) = make_float2(first, second);
}

// For a drain, which finishes nothing.
struct DenseNothing {};

// kWritesAll: also columns that the step does not have. kLoads: load() reads what stages before
// have written.
template <class Epilogue>
struct DenseFinish;

template <>
struct DenseFinish<DenseStore> {
  static constexpr bool kWritesAll = false, kLoads = true;
  struct Loaded {
    bool is_wanted;
  };

  __device__ static Loaded load(const DenseStore& data, const DensePlace& at) {
    return {is_wanted(data.filter, at.column)};
  }
  __device__ static void store(const DenseStore& data, const DensePlace& at, const Loaded& loaded,
                               float first, float second) {
    if (!loaded.is_wanted) return;
    store_pair(data.output + uint64_t{at.column} * data.total_rows + data.first_row + 2 * at.pair,
               first, second);
  }
};

template <>
struct DenseFinish<DensePartials> {
  static constexpr bool kWritesAll = false, kLoads = false;

  __device__ static NothingLoaded load(const DensePartials&, const DensePlace&) { return {}; }
  __device__ static void store(const DensePartials& data, const DensePlace& at,
                               const NothingLoaded&, float first, float second) {
    const uint64_t row =
        uint64_t{at.column} * program::kReductionChunks + data.first_chunk + at.part;
    store_pair(data.partials + row * at.rows + 2 * at.pair, first, second);
  }
};

template <>
struct DenseFinish<DenseSwiglu> {
  static constexpr bool kWritesAll = false, kLoads = false;

  __device__ static NothingLoaded load(const DenseSwiglu&, const DensePlace&) { return {}; }
  __device__ static void store(const DenseSwiglu& data, const DensePlace& at, const NothingLoaded&,
                               float first, float second) {
    data.output[uint64_t{at.column} * (at.rows / 2) + at.pair] = silu_multiply(first, second);
  }
};

template <>
struct DenseFinish<DenseQkv> {
  static constexpr bool kWritesAll = false, kLoads = true;

  // Where a pair of rows stands: the second row is dimension `first + distance` of the head.
  struct Place {
    uint32_t head;   // of q and k together, or of v
    uint32_t first;  // dimension
    uint32_t distance;
    bool is_value;
  };
  struct Loaded {
    Place place;
    float2 rotation, bias;
    uint32_t cache_row;
  };

  __device__ static Place place_of(const DenseQkv& data, uint32_t pair) {
    const uint32_t key_pairs = (data.num_q_heads + data.num_kv_heads) * (data.head_dim / 2);
    if (pair >= key_pairs) {
      const uint32_t in_values = pair - key_pairs;
      return {in_values / (data.v_head_dim / 2), in_values % (data.v_head_dim / 2) * 2, 1, true};
    }
    const uint32_t in_head = pair % (data.head_dim / 2);
    const bool is_rotated = in_head < data.rotary_dim / 2;
    return {pair / (data.head_dim / 2), is_rotated ? in_head : in_head * 2,
            is_rotated ? data.rotary_dim / 2 : 1, false};
  }

  __device__ static float2 bias_of(const DenseQkv& data, const Place& place) {
    const uint32_t keys = (data.num_q_heads + data.num_kv_heads) * data.head_dim;
    const float* of_head =
        data.bias +
        (place.is_value ? keys + place.head * data.v_head_dim : place.head * data.head_dim) +
        place.first;
    return make_float2(of_head[0], of_head[place.distance]);
  }

  __device__ static Loaded load(const DenseQkv& data, const DensePlace& at) {
    const uint32_t column = at.column;
    Loaded loaded = {place_of(data, at.pair),
                     make_float2(1, 0),
                     {},
                     data.cache_rows == nullptr ? column : data.cache_rows[column]};
    if (data.bias != nullptr) loaded.bias = bias_of(data, loaded.place);
    const uint32_t half = data.rotary_dim / 2;
    if (!loaded.place.is_value && loaded.place.first < half) {
      loaded.rotation = data.rotations[uint64_t{column} * half + loaded.place.first];
    }
    return loaded;
  }

  __device__ static void store_at(float* head, const Place& place, float first, float second) {
    float* at = head + place.first;
    if (place.distance == 1) {
      store_pair(at, first, second);
    } else {
      at[0] = first;
      at[place.distance] = second;
    }
  }

  __device__ static void store(const DenseQkv& data, const DensePlace& at, const Loaded& loaded,
                               float first, float second) {
    const Place& place = loaded.place;
    const uint64_t cache_row = loaded.cache_row;
    if (data.bias != nullptr) {
      first += loaded.bias.x;
      second += loaded.bias.y;
    }
    if (place.is_value) {
      store_at(data.values + cache_row * data.value_stride + place.head * data.v_head_dim, place,
               first * data.value_scale, second * data.value_scale);
      return;
    }
    if (place.first < data.rotary_dim / 2) {
      const float low = first, high = second;
      first = low * loaded.rotation.x - high * loaded.rotation.y;
      second = high * loaded.rotation.x + low * loaded.rotation.y;
    }
    if (place.head < data.num_q_heads) {
      store_at(data.query + (uint64_t{at.column} * data.num_q_heads + place.head) * data.head_dim,
               place, first, second);
    } else {
      store_at(
          data.keys + cache_row * data.key_stride + (place.head - data.num_q_heads) * data.head_dim,
          place, first, second);
    }
  }
};

}  // namespace ultraspeed::cuda
