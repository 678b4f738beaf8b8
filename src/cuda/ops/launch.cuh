// How launches of the fast operations are made.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "cuda/tile/stream_role.cuh"

namespace ultraspeed::cuda {

// Calls call(integral constant of the width); an error for widths that there are no kernels for.
template <class Call>
cudaError_t for_width(uint32_t columns, const Call& call) {
  switch (columns) {
    case 8:
      return call(std::integral_constant<uint32_t, 8>());
    case 16:
      return call(std::integral_constant<uint32_t, 16>());
    case 32:
      return call(std::integral_constant<uint32_t, 32>());
    case 64:
      return call(std::integral_constant<uint32_t, 64>());
    default:
      return cudaErrorInvalidValue;
  }
}

inline cudaError_t allow_shared_bytes(const void* kernel, uint32_t shared_bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(shared_bytes));
}

// CTAs in clusters of so many along x and y.
inline cudaLaunchAttribute has_clusters(uint32_t x, uint32_t y = 1) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {x, y, 1};
  return attribute;
}

// The most clusters of `ranks` CTAs that the current device runs at the same time.
template <class Kernel>
cudaError_t count_clusters(Kernel* kernel, uint32_t ranks, uint32_t threads, uint32_t shared_bytes,
                           uint32_t* clusters) {
  const cudaError_t error = allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(ranks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  cudaLaunchAttribute cluster = has_clusters(ranks);
  config.attrs = &cluster;
  config.numAttrs = 1;
  int count = 0;
  const cudaError_t status = cudaOccupancyMaxActiveClusters(&count, kernel, &config);
  *clusters = static_cast<uint32_t>(count);
  return status;
}

struct LaunchSize {
  dim3 ctas;
  uint32_t threads = 0, shared_bytes = 0;
};

template <class... Parameters, class... Arguments>
cudaError_t launch_with(void (*kernel)(Parameters...), const LaunchSize& size,
                        std::initializer_list<cudaLaunchAttribute> attributes, cudaStream_t stream,
                        const Arguments&... arguments) {
  const cudaError_t error =
      allow_shared_bytes(reinterpret_cast<const void*>(kernel), size.shared_bytes);
  if (error != cudaSuccess) return error;
  std::vector<cudaLaunchAttribute> list(attributes);
  cudaLaunchConfig_t config = {};
  config.gridDim = size.ctas;
  config.blockDim = dim3(size.threads);
  config.dynamicSmemBytes = size.shared_bytes;
  config.stream = stream;
  config.attrs = list.data();
  config.numAttrs = static_cast<uint32_t>(list.size());
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// The kernel may start before the one ahead of it in the stream has ended: it calls
// ptx::wait_for_grids() before it reads what that one wrote, or writes anything.
inline cudaLaunchAttribute starts_early() {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

// Clusters are spread over all multiprocessors.
inline cudaLaunchAttribute spreads_clusters() {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterSchedulingPolicyPreference;
  attribute.val.clusterSchedulingPolicyPreference = cudaClusterSchedulingPolicyLoadBalancing;
  return attribute;
}

// All CTAs run at the same time, or the launch fails.
inline cudaLaunchAttribute is_cooperative() {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  return attribute;
}

}  // namespace ultraspeed::cuda
