// The registry of kernels that `bench kernels` measures. To add one: a file with a finder, which
// looks through a program's stages for shapes and gives a group for each, and a line in
// kernel_groups.cc. What a group says before prepare() needs no GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cuda/bench/kernel_bench.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// Launches node `node` of a graph.
using NodeLaunch = std::function<cudaError_t(uint32_t node, cudaStream_t stream)>;

struct BenchKernel {
  std::string name, shape;
  uint64_t bytes = 0;  // of weights or caches that one launch reads
  uint64_t flop = 0;   // that one launch has to do; 0: few beside the bytes
  NodeLaunch work;     // set by prepare(), as drain
  NodeLaunch drain;    // reads the same bytes in the same launch form and drops them
};

// Kernels that share synthetic data, at one shape.
class KernelGroup {
 public:
  virtual ~KernelGroup() = default;

  std::vector<BenchKernel> kernels;
  std::string refusal;        // why the kernels cannot take the shape; then all below is empty
  std::string data;           // for people: what lies in memory
  uint32_t num_sets = 1;      // of data: node i reads set i % num_sets
  uint64_t memory_bytes = 0;  // that prepare() allocates

  // Allocates, fills on the device, and sets work and drain. REQUIRES: no refusal.
  virtual Status prepare(cudaStream_t stream) = 0;
};

using KernelGroups = std::vector<std::unique_ptr<KernelGroup>>;

// All that the registry finds in the program, in the order of the table.
KernelGroups find_kernel_groups(const program::Program& program, const KernelBenchOptions& options);

// Sets of data so that none is in the L2 cache (50 MB on H100 and H200) when its turn comes again:
// at least two, and six caches read in between. `set_bytes`: read by the smallest kernel's launch.
uint32_t sets_to_rotate(uint64_t set_bytes);

// The finders.
KernelGroups find_expert_w4a8(const program::Program& program, const KernelBenchOptions& options);
KernelGroups find_dense(const program::Program& program, const KernelBenchOptions& options);
KernelGroups find_attention(const program::Program& program, const KernelBenchOptions& options);
KernelGroups find_expert_prefill(const program::Program& program,
                                 const KernelBenchOptions& options);

}  // namespace ultraspeed::cuda
