#include "cuda/tile_caches.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cuda/flash_bound.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::test {
namespace {

using cuda::Cached;
using cuda::KvFormat;
using cuda::KvScales;

void check_copied(cudaError_t error) {
  US_CHECK(error == cudaSuccess, "{}", cudaGetErrorString(error));
}

// Where the elements of a machine's cache lie in its tiles.
class TileCodec {
 public:
  TileCodec(const cuda::Machine& machine, uint32_t rank, program::CacheId id)
      : format_(cuda::tile_format(machine.cache_form(id))),
        tiles_(machine.tiles(rank, id)),
        scales_(tiles_.num_kv_heads) {
    if (tiles_.scales == nullptr) return;
    check_copied(cudaMemcpy(scales_.data(), tiles_.scales, scales_.size() * sizeof(KvScales),
                            cudaMemcpyDeviceToHost));
  }

  void fill(std::span<const float> keys, std::span<const float> values) const {
    std::vector<std::byte> bytes(size_bytes(keys.size()));
    for_each(keys.size(), [&](uint64_t i, bool is_value, float scale, uint64_t byte) {
      const float value = (is_value ? values : keys)[i] / scale;
      if (format_ == KvFormat::kE4m3) {
        bytes[byte] = std::byte{tensor::e4m3_from_float(value)};
      } else {
        const uint16_t code = tensor::bf16_from_float(value);
        std::memcpy(&bytes[byte], &code, sizeof(code));
      }
    });
    check_copied(cudaMemcpy(tiles_.tiles, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
  }

  void read(std::span<float> keys, std::span<float> values) const {
    std::vector<std::byte> bytes(size_bytes(keys.size()));
    check_copied(cudaMemcpy(bytes.data(), tiles_.tiles, bytes.size(), cudaMemcpyDeviceToHost));
    for_each(keys.size(), [&](uint64_t i, bool is_value, float scale, uint64_t byte) {
      float& value = (is_value ? values : keys)[i];
      if (format_ == KvFormat::kE4m3) {
        value = tensor::e4m3_to_float(std::to_integer<uint8_t>(bytes[byte])) * scale;
      } else {
        uint16_t code = 0;
        std::memcpy(&code, &bytes[byte], sizeof(code));
        value = tensor::bf16_to_float(code);
      }
    });
  }

 private:
  uint64_t size_bytes(uint64_t num_keys) const {
    return num_keys / tiles_.head_dim / cuda::kKvTilePositions * cuda::kv_tile_bytes(format_);
  }

  // visit(index of an element in keys or values, which, its scale, its first byte).
  template <class Visit>
  void for_each(uint64_t num_keys, const Visit& visit) const {
    format_ == KvFormat::kE4m3 ? for_each_of<KvFormat::kE4m3>(num_keys, visit)
                               : for_each_of<KvFormat::kBf16>(num_keys, visit);
  }
  template <KvFormat kFormat, class Visit>
  void for_each_of(uint64_t num_keys, const Visit& visit) const {
    using Tile = cuda::KvTile<kFormat, cuda::kFlashHeadDim, cuda::kFlashValueDim>;
    constexpr uint32_t kPositions = cuda::kKvTilePositions;
    const uint32_t num_heads = tiles_.num_kv_heads;
    const uint32_t piece =
        tiles_.ring_positions != 0 ? tiles_.ring_positions : tiles_.page_positions;
    for (uint64_t row = 0; row < num_keys / tiles_.head_dim; ++row) {
      const uint64_t p = row / num_heads;
      const auto head = static_cast<uint32_t>(row % num_heads);
      const uint64_t tile =
          (p / piece * num_heads + head) * (piece / kPositions) + p % piece / kPositions;
      const auto slot = static_cast<uint32_t>(p % kPositions);
      for (uint32_t d = 0; d < tiles_.head_dim; ++d) {
        visit(row * tiles_.head_dim + d, false, scales_[head].key,
              tile * Tile::kBytes + Tile::key(slot, d));
      }
      for (uint32_t d = 0; d < tiles_.v_head_dim; ++d) {
        visit(row * tiles_.v_head_dim + d, true, scales_[head].value,
              tile * Tile::kBytes + Tile::value(slot, d));
      }
    }
  }

  KvFormat format_;
  cuda::KvTiles tiles_;
  std::vector<KvScales> scales_;
};

// Row of a position in a cache.
uint64_t cache_row(const program::Program& program, program::CacheId cache,
                   const program::StepInput& input, uint32_t sequence, uint32_t position) {
  const uint64_t ring = program.caches[cache].ring_positions;
  if (ring != 0) return sequence * ring + position % ring;
  const uint64_t size = program.kv_page_positions;
  return input.page_tables[sequence][position / size] * size + position % size;
}

// Positions [begin, end) of a sequence.
std::vector<Cached> read_cached(const AttentionRows& rows, uint32_t sequence, uint32_t kv_head,
                                uint32_t begin, uint32_t end) {
  std::vector<Cached> cached;
  for (uint32_t position = begin; position < end; ++position) {
    const uint64_t row = cache_row(*rows.program, rows.op->cache, *rows.input, sequence, position) *
                             rows.op->num_kv_heads +
                         kv_head;
    const auto key = rows.keys.subspan(row * rows.op->head_dim, rows.op->head_dim);
    const auto value = rows.values.subspan(row * rows.op->v_head_dim, rows.op->v_head_dim);
    cached.push_back({{key.begin(), key.end()}, {value.begin(), value.end()}});
  }
  return cached;
}

}  // namespace

void fill_tiles(const cuda::Machine& machine, uint32_t rank, program::CacheId id,
                std::span<const float> keys, std::span<const float> values) {
  TileCodec(machine, rank, id).fill(keys, values);
}

void read_tiles(const cuda::Machine& machine, uint32_t rank, program::CacheId id,
                std::span<float> keys, std::span<float> values) {
  TileCodec(machine, rank, id).read(keys, values);
}

std::vector<float> take_rows(const program::Program& program, const program::AttentionOperands& op,
                             const program::StepInput& input, std::span<float> keys,
                             std::span<float> values) {
  std::vector<float> rows;
  const auto take = [&](std::span<float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
    std::ranges::fill(row, std::numeric_limits<float>::quiet_NaN());
  };
  const uint64_t key_size = op.num_kv_heads * op.head_dim;
  const uint64_t value_size = op.num_kv_heads * op.v_head_dim;
  for (const program::Column& column : input.columns) {
    const uint64_t at = cache_row(program, op.cache, input, column.sequence, column.position);
    take(keys.subspan(at * key_size, key_size));
    take(values.subspan(at * value_size, value_size));
  }
  return rows;
}

void round_rows(const program::QkvProjOperands& op, std::span<const KvScales> scales,
                std::span<float> rows) {
  const uint64_t key_size = op.num_kv_heads * op.head_dim;
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t in_row = i % row_size(op);
    const bool is_value = in_row >= key_size;
    if (scales.empty()) {
      rows[i] = tensor::bf16_to_float(tensor::bf16_from_float(rows[i]));
    } else if (is_value) {
      rows[i] = tensor::round_to_e4m3(rows[i], scales[(in_row - key_size) / op.v_head_dim].value);
    } else {
      rows[i] = tensor::round_to_e4m3(rows[i], scales[in_row / op.head_dim].key);
    }
  }
}

void put_rows(const program::Program& program, const program::QkvProjOperands& op,
              program::CacheId cache, const program::StepInput& input, std::span<const float> rows,
              std::span<float> keys, std::span<float> values) {
  const uint64_t key_size = op.num_kv_heads * op.head_dim;
  const uint64_t value_size = op.num_kv_heads * op.v_head_dim;
  for (size_t t = 0; t < input.columns.size(); ++t) {
    const auto row = rows.subspan(t * row_size(op), row_size(op));
    const uint64_t at =
        cache_row(program, cache, input, input.columns[t].sequence, input.columns[t].position);
    std::ranges::copy(row.first(key_size), keys.subspan(at * key_size).begin());
    std::ranges::copy(row.last(value_size), values.subspan(at * value_size).begin());
  }
}

double tile_attention_bound(program::KvCacheType type) {
  return type == program::KvCacheType::kFp8 ? 1e-2 : 3e-5;
}

bool are_neighbours(program::KvCacheType type, float scale, float row_error, float a, float b) {
  const bool is_bf16 = type == program::KvCacheType::kBf16;
  const double x = double{a} / double{scale}, y = double{b} / double{scale};
  const double most = std::max(std::abs(x), std::abs(y));
  if (!(most > 0) || std::isinf(most)) return false;
  const int unit = is_bf16 ? std::ilogb(most) - 7 : std::max(std::ilogb(most), -6) - 3;
  return std::abs(x - y) <= std::ldexp(1.0, unit) + double{row_error} / double{scale};
}

double worst_of_bound(const AttentionRows& rows, std::span<const float> output) {
  const program::AttentionOperands& op = *rows.op;
  const auto& columns = rows.input->columns;
  const uint32_t group = op.num_q_heads / op.num_kv_heads;
  cuda::FlashErrors errors;
  for (size_t first = 0, end = 0; first < columns.size(); first = end) {
    while (end < columns.size() && columns[end].sequence == columns[first].sequence) ++end;
    const uint32_t last = columns[end - 1].position + 1;
    const auto seen_from = [&](uint32_t position) {
      const uint32_t behind =
          op.is_window_before_step != 0 ? columns[first].position : position + 1;
      return op.window != 0 && behind > op.window ? behind - op.window : 0;
    };
    const auto seen_to = [&](uint32_t position) {
      if (op.is_causal != 0) return position + 1;
      const bool has_end = op.window != 0 && op.is_window_before_step == 0;
      return has_end ? std::min(last, position + op.window) : last;
    };
    const uint32_t begin = seen_from(columns[first].position);
    const size_t stride = (end - first) * (last - begin) > 2000 ? 37 : 1;
    for (uint32_t kv_head = 0; kv_head < op.num_kv_heads; ++kv_head) {
      const auto cached = read_cached(rows, columns[first].sequence, kv_head, begin, last);
      for (size_t i = 0; i < (end - first) * group; i += stride) {
        const uint32_t position = columns[first + i / group].position;
        const uint64_t head = kv_head * group + i % group;
        const uint64_t row = (first + i / group) * op.num_q_heads + head;
        const double sink = rows.sinks == nullptr ? 0 : double{rows.sinks[head]};
        const uint32_t low = seen_from(position);
        cuda::compare_row(std::span(cached).subspan(low - begin, seen_to(position) - low),
                          &rows.query[row * op.head_dim], double{op.scale},
                          rows.sinks == nullptr ? nullptr : &sink, rows.format,
                          &output[row * op.v_head_dim], errors);
      }
    }
  }
  return errors.worst;
}

}  // namespace ultraspeed::test
