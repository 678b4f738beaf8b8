// What the benches of GPU kernels share: each compares a kernel with a drain, the same launch, ring
// and pages, read and dropped. Nodes of a CUDA graph, one behind the other, each with other
// weights, so that none are in L2. "ceiling" is a drain of 8 GB in one launch; a run counts if it
// reads what the card can: 3.05 TB/s (H100), 4.3 TB/s (H200).
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "cuda/ptx/bulk.cuh"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::bench {

inline constexpr uint32_t kRepetitions = 31, kWarmUps = 20;

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* allocate(uint64_t count) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, count * sizeof(T)), "cudaMalloc");
  return static_cast<T*>(memory);
}

// Random words of pages: of those, `keep` bits stay random and `set` bits are ones.
struct PageFill {
  uint32_t page_bytes = 0, code_bytes = 0;  // scales behind the codes
  uint32_t keep_codes = ~0u, set_codes = 0;
  uint32_t keep_scales = 0, set_scales = 0;
};

static __global__ void fill_kernel(uint32_t* words, uint64_t count, PageFill fill) {
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + 12345;
    for (int round = 0; round < 2; ++round) {
      x ^= x << 13;
      x ^= x >> 17;
      x ^= x << 5;
    }
    words[i] = i * 4 % fill.page_bytes < fill.code_bytes ? (x & fill.keep_codes) | fill.set_codes
                                                         : (x & fill.keep_scales) | fill.set_scales;
  }
}

inline void fill_pages(std::byte* pages, uint64_t bytes, const PageFill& fill) {
  fill_kernel<<<1056, 512>>>(reinterpret_cast<uint32_t*>(pages), bytes / 4, fill);
  check(cudaGetLastError(), "fill");
}

// Scales of 2^-15 .. 2^-8.
template <class Page>
PageFill mxfp4_fill() {
  return {Page::kBytes, Page::kCodeBytes, ~0u, 0, 0x07070707u, 0x70707070u};
}

// Reads `pages` pages of 17,408 bytes and drops them, an equal share a CTA.
inline constexpr uint32_t kDrainStages = 11, kDrainThreads = 288;
static __global__ void __launch_bounds__(kDrainThreads, 1)
    drain_kernel(const std::byte* pages, uint32_t count, uint32_t* output) {
  using cuda::GateUpPage;
  extern __shared__ __align__(128) std::byte stages[];
  __shared__ cuda::RingBarriers<kDrainStages> ring;
  if (threadIdx.x == 0) {
    ring.init(8);
    cuda::ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const uint32_t share = (count + gridDim.x - 1) / gridDim.x;
  const uint32_t begin = min(count, share * blockIdx.x), end = min(count, begin + share);
  const bool is_loader = threadIdx.x == 256;
  const uint64_t policy = cuda::ptx::l2_evict_first();
  uint32_t bits = 0;
  cuda::RingPosition<kDrainStages> at;
  for (uint32_t page = begin; page < end && (is_loader || threadIdx.x < 256);
       ++page, at.advance()) {
    std::byte* stage = stages + at.stage * GateUpPage::kBytes;
    if (is_loader) {
      claim_stage(ring, at, GateUpPage::kBytes);
      cuda::ptx::bulk_copy(stage, pages + uint64_t{page} * GateUpPage::kBytes, GateUpPage::kBytes,
                           &ring.full[at.stage], policy);
      continue;
    }
    cuda::ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const auto* words = reinterpret_cast<const uint4*>(stage);
    for (uint32_t i = threadIdx.x; i < GateUpPage::kBytes / 16; i += 256) bits ^= words[i].x;
    leave_stage(ring, at.stage);
  }
  if (bits == 0x9e3779b9u) *output = bits;
}

inline double median(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Timer {
 public:
  explicit Timer(cudaStream_t stream) : stream_(stream) {
    check(cudaEventCreate(&begin_), "event");
    check(cudaEventCreate(&end_), "event");
  }
  template <class Work>
  float microseconds(const Work& work) {
    check(cudaEventRecord(begin_, stream_), "record");
    work();
    check(cudaEventRecord(end_, stream_), "record");
    check(cudaEventSynchronize(end_), "run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_), "elapsed");
    return ms * 1000;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_{}, end_{};
};

// 8 GB in one launch, as TB/s.
inline double ceiling_tb_s(cudaStream_t stream) {
  using cuda::GateUpPage;
  const uint64_t count = (uint64_t{8} << 30) / GateUpPage::kBytes;
  auto* pages = allocate<std::byte>(count * GateUpPage::kBytes);
  auto* output = allocate<uint32_t>(1);
  fill_pages(pages, count * GateUpPage::kBytes, mxfp4_fill<GateUpPage>());
  const uint32_t bytes = kDrainStages * GateUpPage::kBytes;
  check(cudaFuncSetAttribute(drain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "attribute");
  int sms = 0;
  check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "attribute");
  std::vector<float> times;
  Timer timer(stream);
  for (uint32_t i = 0; i < 15; ++i) {
    times.push_back(timer.microseconds([&] {
      drain_kernel<<<sms, kDrainThreads, bytes, stream>>>(pages, static_cast<uint32_t>(count),
                                                          output);
    }));
  }
  check(cudaFree(pages), "free");
  check(cudaFree(output), "free");
  return static_cast<double>(count) * GateUpPage::kBytes / median(times) / 1e6;
}

template <class Node>
cudaGraphExec_t make_graph(cudaStream_t stream, uint32_t nodes, const Node& node) {
  cudaGraph_t graph{};
  cudaGraphExec_t executable{};
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (uint32_t i = 0; i < nodes; ++i) check(node(i), "launch");
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  check(cudaGraphDestroy(graph), "graph");
  return executable;
}

// Microseconds a node of two graphs of `nodes` nodes each, medians. Alternates, so that both see
// the same clocks.
template <class First, class Second>
std::pair<double, double> compare(cudaStream_t stream, uint32_t nodes, const First& first,
                                  const Second& second) {
  const cudaGraphExec_t graphs[2] = {make_graph(stream, nodes, first),
                                     make_graph(stream, nodes, second)};
  Timer timer(stream);
  std::vector<float> times[2];
  for (uint32_t i = 0; i < kWarmUps + kRepetitions; ++i) {
    for (uint32_t which = 0; which < 2; ++which) {
      const float us =
          timer.microseconds([&] { check(cudaGraphLaunch(graphs[which], stream), "graph"); });
      if (i >= kWarmUps) times[which].push_back(us / static_cast<float>(nodes));
    }
  }
  for (const cudaGraphExec_t graph : graphs) check(cudaGraphExecDestroy(graph), "graph");
  return {median(times[0]), median(times[1])};
}

struct Row {
  std::string kernel;
  uint32_t rows, width;
  double us, drain_us, bytes;
};

inline void print(const std::vector<Row>& table, const char* device, double ceiling, bool as_json) {
  if (as_json) {
    std::printf("{\"device\": \"%s\", \"ceiling_tb_s\": %.3f, \"kernels\": [", device, ceiling);
  } else {
    std::printf("%s, drain of 8 GB: %.3f TB/s\n", device, ceiling);
    std::printf("%-14s %5s %6s %9s %9s %9s %7s %8s %9s\n", "kernel", "rows", "width", "us",
                "drain us", "MB", "GB/s", "of drain", "of 8 GB's");
  }
  const char* separator = "";
  for (const Row& row : table) {
    const double rate = row.bytes / row.us / 1e3;
    const double of_drain = row.drain_us / row.us, of_ceiling = rate / ceiling / 1e3;
    if (as_json) {
      std::printf(
          "%s{\"kernel\": \"%s\", \"rows\": %u, \"width\": %u, \"us\": %.2f, "
          "\"drain_us\": %.2f, \"bytes\": %.0f, \"gb_s\": %.1f, \"of_drain\": %.4f, "
          "\"of_ceiling\": %.4f}",
          separator, row.kernel.c_str(), row.rows, row.width, row.us, row.drain_us, row.bytes, rate,
          of_drain, of_ceiling);
      separator = ", ";
    } else {
      std::printf("%-14s %5u %6u %9.2f %9.2f %9.1f %7.0f %7.1f%% %8.1f%%\n", row.kernel.c_str(),
                  row.rows, row.width, row.us, row.drain_us, row.bytes / 1e6, rate, 100 * of_drain,
                  100 * of_ceiling);
    }
  }
  if (as_json) std::printf("]}\n");
}

}  // namespace ultraspeed::bench
