// Products of a warp (PTX ISA 7.0, mma; 6.5, ldmatrix): d += a * b with a [16, 16] in registers as
// one warp of ptx/wgmma.cuh has it, b [8, 16] in registers, d [16, 8] f32, f16 or bf16. On sm_90 it
// has the bits of wgmma's (dense_gpu_test).
#pragma once

#include <cstdint>

#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda::ptx {

// Four matrices of 8 columns x 8 k of 16 bits from shared memory. Lane i gives the address of the
// 16 bytes of column i % 8 of matrix i / 8. Register m of lane 4 g + t: k 2 t and 2 t + 1 of column
// g of matrix m.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&matrices)[4], uint32_t smem_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(smem_address)
               : "memory");
}

// b: k 0 .. 7 and k 8 .. 15 of the columns.
__device__ __forceinline__ void mma_m16n8k16_f16(float* d, const uint32_t (&a)[4],
                                                 const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float* d, const uint32_t (&a)[4],
                                                  const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace ultraspeed::cuda::ptx
