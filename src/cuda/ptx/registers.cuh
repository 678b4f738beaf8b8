// How many registers the threads of a warpgroup own (PTX ISA 8.0, setmaxnreg; sm_90a). All warps of
// the warpgroup call it; the kernel needs a bound of registers at its launch.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

template <uint32_t kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <uint32_t kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace ultraspeed::cuda::ptx
