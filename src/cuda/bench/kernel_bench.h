// Measures the kernels of this GPU at the shapes of a program, beside what its memory can do: what
// `ultraspeed bench kernels` prints. For the host: no types of CUDA. A kernel is added in
// kernel_group.h's way.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cuda/bench/measured_gpu.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// Kinds of kernels.
inline constexpr std::string_view kKernelKinds[] = {"experts", "dense", "attention", "prefill"};

struct KernelBenchOptions {
  std::vector<std::string> kinds;  // of kKernelKinds; none: all
  uint32_t rank = 0;
  uint32_t rows = 8;          // columns that carry tokens, at most Program::width
  uint32_t live_experts = 1;  // of a layer of experts, in one step
  // Of sequences whose last `rows` positions are a step's, for full attention.
  std::vector<uint32_t> positions = {131'072};
  std::vector<uint32_t> prefill_tokens = {256, 2048};  // of steps of many tokens
  std::function<void(std::string_view)> progress;      // told what is going on; may be empty
};

// A kernel and the drain of the same bytes in the same launch form, in turns.
struct KernelSamples {
  std::string name;   // "expert gate/up"
  std::string shape;  // "60 live of 512 x 6144"
  // Why it was not measured: a shape that the kernel cannot take. All below is empty then.
  std::string refusal;
  std::string data;              // what lies in memory: "420 experts in 7 sets"
  uint64_t bytes = 0;            // read by one launch
  uint64_t flop = 0;             // of products that count; 0: none bound it
  uint32_t num_nodes = 0;        // launches in a graph, one behind the other
  std::vector<double> us;        // [repetition], of one launch: a graph's time / num_nodes
  std::vector<double> drain_us;  // [repetition]
};

// The product of two square matrices of e4m3 by cuBLASLt.
struct MatrixPeak {
  std::string refusal;     // why there is none; then all below is empty
  uint64_t flop = 0;       // of a product
  std::vector<double> us;  // [repetition], of one product
};

struct KernelBench : MeasuredGpu {
  std::optional<MatrixPeak> peak;  // measured where a kernel has flop
  std::vector<KernelSamples> kernels;
};

// On GPU 0, with synthetic weights made there. Errors: those of device_limits(); kOutOfMemory, with
// what is needed and what is free, before anything is allocated.
// REQUIRES: options.rank < program.num_ranks, options.rows in 1 .. program.width, as many live
// experts as the program's route tables have slots, or fewer, and positions of at least `rows`.
Result<KernelBench> measure_kernels(const program::Program& program,
                                    const KernelBenchOptions& options);

}  // namespace ultraspeed::cuda
