// FP8 experts (expert_w4a8.h) as plans of the kernel in dense.cuh. Gate/up: a part is a slot, the
// CTAs of a cluster share K in quarters. Down: a part is a K-chunk, whose pages are those of all
// slots, ascending, as if the live experts were columns of one matrix; a slot has one or more, or
// none.
#pragma once

#include <cstdint>

#include "cuda/ops/dense.cuh"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/math.cuh"
#include "cuda/ops/routed_pair.cuh"
#include "cuda/ptx/convert.cuh"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/mxfp4_page.h"
#include "tensor/block_scale.h"

namespace ultraspeed::cuda {

static_assert(kDownChunkColumns == Fp8Page::kColumns && kTileNeurons == kDenseTilePairs);

struct ExpertStream : ExpertLaunch {
  const std::byte* weights = nullptr;  // [experts] matrices
  const std::byte* operand = nullptr;
};

// What both plans have in common.
template <class OperandOf, uint32_t kWidth>
struct ExpertPlan {
  using Page = Fp8Page;
  using Operand = OperandOf;
  using Launch = ExpertStream;
  static constexpr uint32_t kColumns = kWidth;
  static constexpr uint32_t kAhead = 0;
  static constexpr bool kReadsRoutes = true;

  __device__ ExpertPlan(const ExpertStream& launch, uint32_t of_rows, uint32_t of_rank,
                        uint32_t of_pages)
      : weights(launch.weights),
        operand(launch.operand),
        expert(launch.route.expert),
        rows(of_rows),
        tiles(of_rows / kDenseTileRows),
        rank(of_rank),
        pages(of_pages) {}

  __device__ uint32_t part(uint32_t) const { return rank; }

  const std::byte* weights;
  const std::byte* operand;
  const uint32_t* expert;  // [slots]
  uint32_t rows, tiles;    // of a matrix
  uint32_t rank;           // which part of K is this CTA's
  uint32_t pages;          // of a CTA in a unit
};

template <uint32_t kWidth>
struct ExpertGateUpPlan : ExpertPlan<DenseOperand<Fp8Page>, kWidth> {
  using Base = ExpertPlan<DenseOperand<Fp8Page>, kWidth>;
  static constexpr uint32_t kRanks = kDenseRanks;
  // Of two, one computes while the other begins or ends a tile.
  static constexpr uint32_t kCtas = kWidth == 8 ? 2 : 1;
  static constexpr uint32_t kPieceBytes = Base::Operand::piece_bytes(kWidth);

  __device__ ExpertGateUpPlan(const ExpertStream& launch, uint32_t of_rank)
      : Base(launch, 2 * launch.intermediate, of_rank, launch.hidden / Fp8Page::kColumns / kRanks),
        num_units(has_units(launch) ? *launch.route.num_slots * this->tiles : 0) {}

  __device__ StreamUnit unit(uint32_t index) const {
    const uint64_t tile =
        uint64_t{this->expert[index / this->tiles]} * this->tiles + index % this->tiles;
    const uint32_t pages = this->pages;
    return {this->weights + (tile * kRanks + this->rank) * pages * Fp8Page::kBytes,
            this->operand + uint64_t{this->rank} * pages * kPieceBytes, pages};
  }
  __device__ const std::byte* page(const StreamUnit& of, uint32_t i) const {
    return of.pages + i * Fp8Page::kBytes;
  }
  __device__ const std::byte* piece(const StreamUnit& of, uint32_t i) const {
    return of.pieces + i * kPieceBytes;
  }

  uint32_t num_units;
};

template <uint32_t kWidth>
struct ExpertDownPlan : ExpertPlan<ExpertOperand, kWidth> {
  using Base = ExpertPlan<ExpertOperand, kWidth>;
  static constexpr uint32_t kRanks = 1;
  static constexpr uint32_t kCtas = 1;
  static constexpr uint32_t kPieceBytes = ExpertOperand::piece_bytes(kWidth);

  __device__ ExpertDownPlan(const ExpertStream& launch, uint32_t)
      : Base(launch, launch.hidden, 0, *launch.route.num_slots),
        chunks(launch.intermediate / launch.chunk_columns),
        row_pages(down_pages(launch)),
        matrix_bytes(uint64_t{this->tiles} * row_pages * Fp8Page::kBytes),
        num_units(has_units(launch) ? this->tiles * chunks : 0) {}

  __device__ StreamUnit unit(uint32_t index) const {
    const uint32_t tile = index % this->tiles;
    const DownChunk of(index / this->tiles, chunks, row_pages);
    return {this->weights + (uint64_t{tile} * row_pages + of.first_page) * Fp8Page::kBytes,
            this->operand + uint64_t{of.first_page} * kPieceBytes, of.num_pages * this->pages};
  }
  __device__ const std::byte* page(const StreamUnit& of, uint32_t i) const {
    const Place at = place(of, i);
    return of.pages + this->expert[at.slot] * matrix_bytes + at.page * Fp8Page::kBytes;
  }
  __device__ const std::byte* piece(const StreamUnit& of, uint32_t i) const {
    const Place at = place(of, i);
    return of.pieces + (uint64_t{at.slot} * row_pages + at.page) * kPieceBytes;
  }

  struct Place {
    uint32_t slot, page;  // of the unit's
  };
  __device__ Place place(const StreamUnit& of, uint32_t i) const {
    if (row_pages <= chunks) return {i, 0};  // a slot has one, or none
    const uint32_t of_slot = of.num_pages / this->pages;
    return {i / of_slot, i % of_slot};
  }

  uint32_t chunks;        // of K
  uint32_t row_pages;     // of a tile, and pieces of a slot
  uint64_t matrix_bytes;  // of an expert; a unit's pages are those of all slots
  uint32_t num_units;
};

// Makes h: the operand of down, and its values in f32.
struct ExpertSwiglu {
  program::RouteTable route;
  uint32_t columns = 8, first_column = 0;  // of the operand; of the step
  uint32_t intermediate = 0, chunk_columns = 0;
  uint32_t pieces = 0;          // of a slot
  std::byte* output = nullptr;  // [slots][pieces]
  float* activation = nullptr;  // [pairs, intermediate]; may be null
};

template <>
struct DenseFinish<ExpertSwiglu> {
  static constexpr bool kWritesAll = true;  // zeros where a column is not routed

  __device__ static RoutedPair load(const ExpertSwiglu& data, const DensePlace& at) {
    return find_pair(data.route, at.part, at.column);
  }
  __device__ static void store(const ExpertSwiglu& data, const DensePlace& at,
                               const RoutedPair& routed, float gate, float up) {
    uint16_t code = 0;
    float column_scale = 0;
    if (routed.pair != program::kNoId) {
      const float value = silu_multiply(gate, up);
      const tensor::BlockScale scale =
          tensor::f16_scale(__reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu));
      if (scale.is_nan) {
        column_scale = __int_as_float(0x7fffffff);
      } else {
        code =
            static_cast<uint16_t>(ptx::f16x2(value * tensor::power_of_two(-scale.exponent), 0.0F));
        column_scale = tensor::power_of_two(scale.exponent) * routed.weight;
      }
      if (data.activation != nullptr) {
        data.activation[uint64_t{routed.pair} * data.intermediate + at.pair] = value;
      }
    }
    const uint32_t column = at.column - data.first_column;
    const uint32_t k = down_column(at.pair, data.chunk_columns);
    const uint32_t in_piece = k % kDownChunkColumns;
    const uint64_t number = uint64_t{at.part} * data.pieces + k / kDownChunkColumns;
    std::byte* piece = data.output + number * ExpertOperand::piece_bytes(data.columns);
    *reinterpret_cast<uint16_t*>(piece + ExpertOperand::code(data.columns, 0, column, in_piece)) =
        code;
    if (in_piece % kTileNeurons != 0) return;
    *reinterpret_cast<float*>(piece + ExpertOperand::scale(data.columns, column, in_piece)) =
        column_scale;
  }
};

}  // namespace ultraspeed::cuda
