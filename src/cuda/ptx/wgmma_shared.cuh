// Warpgroup products (PTX ISA 8.0, wgmma; sm_90a) with b in shared memory and a there, too, or in
// registers: d += a * b or d = a * b, a [64, k], b [n, k], d [64, n] f32 in registers, as described
// in ptx/wgmma.cuh. k is 32 for e4m3 and 16 for bf16: 32 bytes of a row either way.
//
// Registers of a in bf16, with g = lane / 4 and t = lane % 4:
//   a[0]: row g, k 2 t and the next (low half first)   a[1]: row g + 8, the same k
//   a[2]: row g, k 8 + 2 t and the next                a[3]: row g + 8, the same k
#pragma once

#include <cstdint>

#include "cuda/ptx/wgmma.cuh"

namespace ultraspeed::cuda::ptx {

// Describes a matrix at a shared address that is a multiple of 16: core matrices of 8 rows x 16
// bytes without swizzle; neighbours along k are kLeadingBytes apart, along rows kStrideBytes.
template <uint32_t kLeadingBytes, uint32_t kStrideBytes>
__device__ __forceinline__ uint64_t wgmma_matrix(uint32_t smem_address) {
  static_assert(kLeadingBytes % 16 == 0 && kStrideBytes % 16 == 0 && kStrideBytes < 1 << 18);
  return uint64_t{(smem_address & 0x3ffff) >> 4} | uint64_t{kLeadingBytes >> 4} << 16 |
         uint64_t{kStrideBytes >> 4} << 32;
}

#define US_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define US_D16(i) US_D4(i), US_D4(i + 4), US_D4(i + 8), US_D4(i + 12)
#define US_D32 US_D16(0), US_D16(16)
#define US_D64 US_D32, US_D16(32), US_D16(48)
#define US_NAMES32                                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define US_NAMES64                                                                \
  US_NAMES32                                                                      \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, " \
  "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "   \
  "%62, %63"

// a and b in shared memory. REQUIRES of all: d (and a) stay untouched until wgmma_wait() covers the
// product's group.
#define US_DEFINE_WGMMA(name, shape, types, scales)                                        \
  __device__ __forceinline__ void name(float(&d)[32], uint64_t a, uint64_t b, bool adds) { \
    asm volatile(                                                                          \
        "{\n"                                                                              \
        ".reg .pred adds;\n"                                                               \
        "setp.ne.b32 adds, %34, 0;\n"                                                      \
        "wgmma.mma_async.sync.aligned." shape ".f32." types " {" US_NAMES32                \
        "}, %32, %33, "                                                                    \
        "adds, " scales                                                                    \
        ";\n"                                                                              \
        "}"                                                                                \
        : US_D32                                                                           \
        : "l"(a), "l"(b), "r"(static_cast<uint32_t>(adds)));                               \
  }
US_DEFINE_WGMMA(wgmma_m64n64_bf16, "m64n64k16", "bf16.bf16", "1, 1, 0, 0")
#undef US_DEFINE_WGMMA

#define US_DEFINE_WGMMA(name, shape, types, scales)                                        \
  __device__ __forceinline__ void name(float(&d)[64], uint64_t a, uint64_t b, bool adds) { \
    asm volatile(                                                                          \
        "{\n"                                                                              \
        ".reg .pred adds;\n"                                                               \
        "setp.ne.b32 adds, %66, 0;\n"                                                      \
        "wgmma.mma_async.sync.aligned." shape ".f32." types " {" US_NAMES64                \
        "}, %64, %65, "                                                                    \
        "adds, " scales                                                                    \
        ";\n"                                                                              \
        "}"                                                                                \
        : US_D64                                                                           \
        : "l"(a), "l"(b), "r"(static_cast<uint32_t>(adds)));                               \
  }
US_DEFINE_WGMMA(wgmma_m64n128_e4m3, "m64n128k32", "e4m3.e4m3", "1, 1")
#undef US_DEFINE_WGMMA

// a in registers.
#define US_DEFINE_WGMMA(name, shape, types, scales)                                              \
  __device__ __forceinline__ void name(float(&d)[64], const uint32_t(&a)[4], uint64_t b,         \
                                       bool adds) {                                              \
    asm volatile(                                                                                \
        "{\n"                                                                                    \
        ".reg .pred adds;\n"                                                                     \
        "setp.ne.b32 adds, %69, 0;\n"                                                            \
        "wgmma.mma_async.sync.aligned." shape ".f32." types " {" US_NAMES64                      \
        "}, "                                                                                    \
        "{%64, %65, %66, %67}, %68, adds, " scales                                               \
        ";\n"                                                                                    \
        "}"                                                                                      \
        : US_D64                                                                                 \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<uint32_t>(adds))); \
  }
US_DEFINE_WGMMA(wgmma_m64n128_e4m3, "m64n128k32", "e4m3.e4m3", "1, 1")
US_DEFINE_WGMMA(wgmma_m64n128_bf16, "m64n128k16", "bf16.bf16", "1, 1, 0")
#undef US_DEFINE_WGMMA
#undef US_NAMES64
#undef US_NAMES32
#undef US_D64
#undef US_D32
#undef US_D16
#undef US_D4

}  // namespace ultraspeed::cuda::ptx
