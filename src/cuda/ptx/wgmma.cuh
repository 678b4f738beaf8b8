// Warpgroup products (PTX ISA 8.0, wgmma; sm_90a) of a [64, k] in registers and b [n, k] in shared
// memory, d [64, n] f32 in registers: d = a * b with k = 32 of e4m3, d += a * b with k = 16 of f16
// or bf16.
//
// Warp w of the group has rows 16 w .. 16 w + 15. With g = lane / 4 and t = lane % 4, of e4m3:
//   a[0]: row g, k 4 t .. 4 t + 3 (low byte first)    a[1]: row g + 8, the same k
//   a[2]: row g, k 16 + 4 t ..                        a[3]: row g + 8, k 16 + 4 t ..
// of f16 and bf16:
//   a[0]: row g, k 2 t and 2 t + 1 (low half first)   a[1]: row g + 8, the same k
//   a[2]: row g, k 8 + 2 t ..                         a[3]: row g + 8, k 8 + 2 t ..
// and of all:
//   d[4 j], d[4 j + 1]: row g, columns 8 j + 2 t and the next
//   d[4 j + 2], d[4 j + 3]: row g + 8, the same columns
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// Orders register writes of this warp before its next products.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most kPending of the groups closed last are unfinished.
template <uint32_t kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Says that a product wrote this register by now: to be called after wgmma_wait().
__device__ __forceinline__ void wgmma_result(float& d) {
  asm volatile("" : "+f"(d)::"memory");
}

// Describes b at a shared address that is a multiple of 16: core matrices of 8 columns x 16 bytes
// without swizzle; the two k halves are 128 bytes apart, groups of 8 columns 256 bytes
// (tile/e4m3_operand.h, tile/dense_operand.h). Adding bytes / 16 moves it. For a whole warp with
// one address: the shuffle lets the compiler keep descriptors in uniform registers, where products
// want them.
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t smem_address) {
  constexpr uint64_t kLeadingBytes = 128;
  constexpr uint64_t kStrideBytes = 256;
  const uint32_t address = __shfl_sync(~0u, smem_address, 0);
  return uint64_t{(address & 0x3ffff) >> 4} | (kLeadingBytes >> 4) << 16 |
         (kStrideBytes >> 4) << 32;
}

// REQUIRES: a and d stay untouched until wgmma_wait() covers the product's group.
template <uint32_t kColumns>
__device__ __forceinline__ void wgmma_m64k32(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                             uint64_t b) = delete;
template <uint32_t kColumns>
__device__ __forceinline__ void wgmma_m64k16_f16(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                                 uint64_t b) = delete;
template <uint32_t kColumns>
__device__ __forceinline__ void wgmma_m64k16_bf16(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                                  uint64_t b) = delete;

// Registers of d and their names in the instruction. They are inputs, too, although d starts at
// zero: otherwise ptxas gives each product in flight registers of its own.
#define US_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define US_D8(i) US_D4(i), US_D4(i + 4)
#define US_D16(i) US_D8(i), US_D8(i + 8)
#define US_D32(i) US_D16(i), US_D16(i + 16)
#define US_NAMES4 "%0, %1, %2, %3"
#define US_NAMES8 US_NAMES4 ", %4, %5, %6, %7"
#define US_NAMES12 US_NAMES8 ", %8, %9, %10, %11"
#define US_NAMES16 US_NAMES12 ", %12, %13, %14, %15"
#define US_NAMES20 US_NAMES16 ", %16, %17, %18, %19"
#define US_NAMES24 US_NAMES20 ", %20, %21, %22, %23"
#define US_NAMES28 US_NAMES24 ", %24, %25, %26, %27"
#define US_NAMES32 US_NAMES28 ", %28, %29, %30, %31"

// The zero before the two ones (signs) means: d starts at zero.
#define US_DEFINE_WGMMA(n, names, inputs, ...)                                                   \
  template <>                                                                                    \
  __device__ __forceinline__ void wgmma_m64k32<n>(float(&d)[n / 2], const uint32_t(&a)[4],       \
                                                  uint64_t b) {                                  \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k32.f32.e4m3.e4m3 {" names "}, " inputs \
                 ", 0, 1, 1;"                                                                    \
                 : __VA_ARGS__                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
  }
US_DEFINE_WGMMA(8, US_NAMES4, "{%4, %5, %6, %7}, %8", US_D4(0))
US_DEFINE_WGMMA(16, US_NAMES8, "{%8, %9, %10, %11}, %12", US_D8(0))
US_DEFINE_WGMMA(24, US_NAMES12, "{%12, %13, %14, %15}, %16", US_D8(0), US_D4(8))
US_DEFINE_WGMMA(32, US_NAMES16, "{%16, %17, %18, %19}, %20", US_D16(0))
US_DEFINE_WGMMA(40, US_NAMES20, "{%20, %21, %22, %23}, %24", US_D16(0), US_D4(16))
US_DEFINE_WGMMA(48, US_NAMES24, "{%24, %25, %26, %27}, %28", US_D16(0), US_D8(16))
US_DEFINE_WGMMA(56, US_NAMES28, "{%28, %29, %30, %31}, %32", US_D16(0), US_D8(16), US_D4(24))
US_DEFINE_WGMMA(64, US_NAMES32, "{%32, %33, %34, %35}, %36", US_D32(0))
#undef US_DEFINE_WGMMA

// The ones mean: d is added to, signs; the last zero: b is not transposed.
#define US_DEFINE_WGMMA(n, type, names, inputs, ...)                                              \
  template <>                                                                                     \
  __device__ __forceinline__ void wgmma_m64k16_##type<n>(float(&d)[n / 2], const uint32_t(&a)[4], \
                                                         uint64_t b) {                            \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." #type "." #type " {" names     \
                 "}, " inputs ", 1, 1, 1, 0;"                                                     \
                 : __VA_ARGS__                                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                           \
  }
US_DEFINE_WGMMA(8, f16, US_NAMES4, "{%4, %5, %6, %7}, %8", US_D4(0))
US_DEFINE_WGMMA(16, f16, US_NAMES8, "{%8, %9, %10, %11}, %12", US_D8(0))
US_DEFINE_WGMMA(32, f16, US_NAMES16, "{%16, %17, %18, %19}, %20", US_D16(0))
US_DEFINE_WGMMA(64, f16, US_NAMES32, "{%32, %33, %34, %35}, %36", US_D32(0))
US_DEFINE_WGMMA(8, bf16, US_NAMES4, "{%4, %5, %6, %7}, %8", US_D4(0))
US_DEFINE_WGMMA(16, bf16, US_NAMES8, "{%8, %9, %10, %11}, %12", US_D8(0))
US_DEFINE_WGMMA(32, bf16, US_NAMES16, "{%16, %17, %18, %19}, %20", US_D16(0))
US_DEFINE_WGMMA(64, bf16, US_NAMES32, "{%32, %33, %34, %35}, %36", US_D32(0))
#undef US_DEFINE_WGMMA
#undef US_NAMES32
#undef US_NAMES28
#undef US_NAMES24
#undef US_NAMES20
#undef US_NAMES16
#undef US_NAMES12
#undef US_NAMES8
#undef US_NAMES4
#undef US_D32
#undef US_D16
#undef US_D8
#undef US_D4

}  // namespace ultraspeed::cuda::ptx
