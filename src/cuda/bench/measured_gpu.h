// The GPU that a measurement ran on, and what its memory can do. For the host: no types of CUDA.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ultraspeed::cuda {

struct GpuClocks {
  uint32_t sm_mhz = 0, memory_mhz = 0;  // while the ceiling is measured
  uint32_t max_sm_mhz = 0, max_memory_mhz = 0;
};

struct GpuFacts {
  std::string name;
  uint32_t num_multiprocessors = 0;
  uint64_t memory_bytes = 0;
  uint64_t l2_bytes = 0;
  uint32_t cuda_driver = 0, cuda_runtime = 0;  // 1000 major + 10 minor, as CUDA gives them
  std::string driver;                          // of NVIDIA; "": not readable
  std::optional<GpuClocks> clocks;             // none: not readable
};

struct MeasuredGpu {
  GpuFacts gpu;
  uint64_t ceiling_bytes = 0;      // read and dropped by one launch
  std::vector<double> ceiling_us;  // [repetition]
};

}  // namespace ultraspeed::cuda
