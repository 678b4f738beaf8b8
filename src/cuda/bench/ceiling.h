// Facts of the current GPU and the ceiling of all its kernels: a drain of 8 GB.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "cuda/bench/drain.h"
#include "cuda/bench/measured_gpu.h"
#include "cuda/device.h"

namespace ultraspeed::cuda {

using ShowProgress = std::function<void(std::string_view)>;  // told what is going on; may be empty

inline constexpr uint64_t kCeilingPages = (uint64_t{8} << 30) / kDrainPageBytes;
inline constexpr uint64_t kCeilingBytes = kCeilingPages * kDrainPageBytes;

// usable_bytes: DeviceLimits::memory_bytes, what is free but for kSpareBytes. Errors: kOutOfMemory,
// with what is needed and what is free, if `what` has no room. hint: what
// else to do about it, beginning with ", "; may be empty.
Status check_free_memory(std::string_view what, uint64_t size_bytes, uint64_t usable_bytes,
                         std::string_view hint);

// Takes kCeilingBytes of memory while it runs.
Result<MeasuredGpu> measure_gpu(const ShowProgress& progress, cudaStream_t stream);

}  // namespace ultraspeed::cuda
