#include "model/weight_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/mxfp4.h"

namespace ultraspeed::model {
namespace {

// Index of the first element whose masked bits equal `bad`. Most tensors have none, so a branchless
// pass over a piece decides whether to look closer.
template <class Bits>
std::optional<uint64_t> find_masked(std::span<const std::byte> elements, Bits mask, Bits bad) {
  constexpr size_t kPieceElements = 4096;
  const size_t count = elements.size() / sizeof(Bits);
  Bits piece[kPieceElements];
  for (size_t begin = 0; begin < count; begin += kPieceElements) {
    const size_t piece_count = std::min(kPieceElements, count - begin);
    std::memcpy(piece, elements.data() + begin * sizeof(Bits), piece_count * sizeof(Bits));
    bool has_bad = false;
    for (size_t i = 0; i < piece_count; ++i) has_bad |= (piece[i] & mask) == bad;
    if (!has_bad) continue;
    size_t i = 0;
    while ((piece[i] & mask) != bad) ++i;
    return begin + i;
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint64_t> find_bad_element(tensor::WeightFormat format,
                                         std::span<const std::byte> elements) {
  switch (format) {
    case tensor::WeightFormat::kF32:
      return find_masked<uint32_t>(elements, 0x7f800000U, 0x7f800000U);
    case tensor::WeightFormat::kBf16:
      return find_masked<uint16_t>(elements, 0x7f80U, 0x7f80U);
    case tensor::WeightFormat::kFp8Block128:
      return find_masked<uint8_t>(elements, 0x7fU, 0x7fU);
    case tensor::WeightFormat::kMxfp4:
      break;
  }
  return std::nullopt;
}

std::optional<uint64_t> find_bad_fp8_scale(std::span<const float> scales) {
  const auto bad = std::find_if(scales.begin(), scales.end(), [](float scale) {
    return !std::isfinite(scale) || std::signbit(scale);
  });
  if (bad == scales.end()) return std::nullopt;
  return static_cast<uint64_t>(bad - scales.begin());
}

std::optional<uint64_t> find_bad_mx_scale(std::span<const std::byte> scales) {
  return find_masked<uint8_t>(scales, 0xffU, tensor::kE8m0Nan);
}

tl::unexpected<Error> bad_value(const TensorRef& tensor, uint64_t index, const TakenBlock& block,
                                std::string_view expected) {
  return make_error(
      ErrorCode::kInvalidData, "{}: tensor '{}' has a bad value at row {}, column {}; expected {}",
      tensor.file->path(), tensor.name, block.row_begin + index / block.columns * block.row_stride,
      block.column_begin + index % block.columns, expected);
}

}  // namespace ultraspeed::model
