// In which form the inputs of matrix products are multiplied (docs/numerics.md section 1).
#pragma once

#include <cstdint>

namespace ultraspeed::cuda {

enum class Arithmetic : uint8_t {
  kF32,   // binary32 in the order of the CPU: the exact mode
  kW4a8,  // the inputs of MXFP4 experts in 8 bits (tile/e4m3_operand.h)
};

}  // namespace ultraspeed::cuda
