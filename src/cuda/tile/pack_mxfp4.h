// Packs canonical MXFP4 matrices (tensor/weight_format.h) into pages (mxfp4_page.h), on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace ultraspeed::cuda {

// Pages have tensor::packed_bytes(kMxfp4, rows, columns) bytes of what is filled up. Refused,
// because pages cannot hold them: a NaN scale (255), and scale 0 (2^-127) unless all codes of its
// block are zeros; such a block gets scale 1.

// canonical: [2 * intermediate, hidden], gate rows, then up rows.
// REQUIRES: 32 divides intermediate and 512 divides hidden.
Status pack_gate_up(std::span<const std::byte> canonical, uint32_t intermediate, uint32_t hidden,
                    std::span<std::byte> pages);
void unpack_gate_up(std::span<const std::byte> pages, uint32_t intermediate, uint32_t hidden,
                    std::span<std::byte> canonical);

// canonical: [hidden, intermediate]. REQUIRES: 128 divides hidden and 256 divides intermediate.
Status pack_down(std::span<const std::byte> canonical, uint32_t hidden, uint32_t intermediate,
                 std::span<std::byte> pages);
void unpack_down(std::span<const std::byte> pages, uint32_t hidden, uint32_t intermediate,
                 std::span<std::byte> canonical);

// canonical [2 * intermediate, hidden], its columns filled up with zeros: canonical
// [2 * intermediate, gate_up_columns(hidden)]. REQUIRES: 32 divides hidden.
std::vector<std::byte> fill_up_gate_up(std::span<const std::byte> canonical, uint32_t intermediate,
                                       uint32_t hidden);

// canonical [hidden, intermediate] with K-chunks of chunk_columns columns, filled up with zeros:
// canonical [padded_down_rows(), padded_down_columns()].
// REQUIRES: chunk_columns and 32 divide intermediate.
std::vector<std::byte> fill_up_down(std::span<const std::byte> canonical, uint32_t hidden,
                                    uint32_t intermediate, uint32_t chunk_columns);

}  // namespace ultraspeed::cuda
