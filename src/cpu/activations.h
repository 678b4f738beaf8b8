// In which form the inputs of matrix products are multiplied (docs/numerics.md section 1).
#pragma once

#include <cstdint>
#include <string_view>

namespace ultraspeed::cpu {

enum class Activations : uint8_t {
  kF32,   // binary32, weights as stored: the exact mode
  kInt8,  // 8 bits with a scale for each 32, FP8 weights likewise; MXFP4 weights as stored
};

constexpr std::string_view activations_name(Activations activations) {
  return activations == Activations::kInt8 ? "int8" : "f32";
}

}  // namespace ultraspeed::cpu
