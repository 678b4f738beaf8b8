// What only NVIDIA's management library (NVML) tells. It comes with the driver, not with CUDA, so
// it is looked for when the program runs.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cuda/bench/measured_gpu.h"

namespace ultraspeed::cuda {

class Nvml {
 public:
  // Of the current device. Without the library, or where it refuses, all below is empty.
  Nvml();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::string driver_version() const;
  std::optional<GpuClocks> clocks() const;  // now

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace ultraspeed::cuda
