// What one thread's vector unit does at most for products of f32: loops with nothing to wait for.
#pragma once

#include <optional>

namespace ultraspeed::cpu {

// Measured in a row, so that one clock holds for all.
struct VectorCeilings {
  double clock_ghz;             // a chain of multiplications
  double broadcasts_per_ns;     // fused products by inputs that are broadcast from memory
  double with_decoding_per_ns;  // the same, with eight inputs for each 16 FP8 weights decoded
};

// Empty on a processor without AVX-512.
std::optional<VectorCeilings> measure_vector_ceilings();

}  // namespace ultraspeed::cpu
