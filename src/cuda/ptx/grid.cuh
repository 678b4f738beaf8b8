// Dependent launches (PTX ISA 7.8, griddepcontrol; sm_90): a grid that is launched with
// programmatic stream serialization may start when all CTAs of the grid before it have allowed that
// or exited.
#pragma once

namespace ultraspeed::cuda::ptx {

// Allows the next grid to start. Its wait_for_grids() still waits for the end of this one.
__device__ __forceinline__ void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Waits until the grids before this one have ended and their writes are visible. Returns at once
// in an ordinary launch.
__device__ __forceinline__ void wait_for_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

}  // namespace ultraspeed::cuda::ptx
