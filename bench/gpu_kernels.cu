// How near the expert kernels (cuda/ops/expert_w4a8.h) come to the memory speed of this GPU, at the
// shape of a rank of 8 of the trillion-parameter model: gate/up 512 x 6144, down 6144 x 256, 384
// experts in memory, 60 (--live, at most 192) of them live in a step.
//
//   nvcc -std=c++20 --expt-relaxed-constexpr -fmad=false -O3 -Isrc
//     -gencode arch=compute_90a,code=sm_90a
//     bench/gpu_kernels.cu src/cuda/ops/expert_w4a8.cu -o gpu_kernels
//   gpu_kernels [--json] [--live N]
//
// Each row compares a kernel with a drain: the same launch, ring and pages, read and dropped. Nodes
// of a CUDA graph, one behind the other, each with other experts, so that no weights are in L2.
// "ceiling" is a drain of 8 GB in one launch; a run counts if it reads what the card can: 3.05 TB/s
// (H100), 4.3 TB/s (H200).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda/ops/expert_w4a8.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/page_ring.cuh"
#include "program/operand_ids.h"

namespace {

using namespace ultraspeed::cuda;
using ultraspeed::program::kReductionChunks;
using ultraspeed::program::RouteTable;

constexpr uint32_t kHidden = 6144, kIntermediate = 256;
constexpr uint32_t kExperts = 384, kMaxLive = 192, kMaxPairs = 512;
constexpr uint64_t kMatrixBytes = uint64_t{kHidden} * kIntermediate * 17 / 32;  // of down
constexpr uint32_t kNodes = 24;
constexpr uint32_t kRepetitions = 31;

void check(cudaError_t error, const char* what) {
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

// Random codes; in pages of `page_bytes`, from `code_bytes` on, scales of 2^-15 .. 2^-8.
__global__ void fill_pages(uint32_t* words, uint64_t count, uint32_t page_bytes,
                           uint32_t code_bytes) {
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + 12345;
    for (int round = 0; round < 2; ++round) {
      x ^= x << 13;
      x ^= x >> 17;
      x ^= x << 5;
    }
    words[i] = i * 4 % page_bytes < code_bytes ? x : (x & 0x07070707u) | 0x70707070u;
  }
}

// Reads `pages` pages of 17,408 bytes and drops them, an equal share a CTA.
constexpr uint32_t kDrainStages = 11, kDrainThreads = 288;
__global__ void __launch_bounds__(kDrainThreads, 1)
    drain_kernel(const std::byte* pages, uint32_t count, uint32_t* output) {
  extern __shared__ __align__(128) std::byte stages[];
  __shared__ RingBarriers<kDrainStages> ring;
  if (threadIdx.x == 0) {
    ring.init(8);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const uint32_t share = (count + gridDim.x - 1) / gridDim.x;
  const uint32_t begin = min(count, share * blockIdx.x), end = min(count, begin + share);
  const bool is_loader = threadIdx.x == 256;
  const uint64_t policy = ptx::l2_evict_first();
  uint32_t bits = 0;
  RingPosition<kDrainStages> at;
  for (uint32_t page = begin; page < end && (is_loader || threadIdx.x < 256);
       ++page, at.advance()) {
    std::byte* stage = stages + at.stage * GateUpPage::kBytes;
    if (is_loader) {
      claim_stage(ring, at, GateUpPage::kBytes);
      ptx::bulk_copy(stage, pages + uint64_t{page} * GateUpPage::kBytes, GateUpPage::kBytes,
                     &ring.full[at.stage], policy);
      continue;
    }
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const auto* words = reinterpret_cast<const uint4*>(stage);
    for (uint32_t i = threadIdx.x; i < GateUpPage::kBytes / 16; i += 256) bits ^= words[i].x;
    leave_stage(ring, at.stage);
  }
  if (bits == 0x9e3779b9u) *output = bits;
}

double median(std::vector<float> values) {
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

template <class Node>
cudaGraphExec_t make_graph(cudaStream_t stream, const Node& node) {
  cudaGraph_t graph{};
  cudaGraphExec_t executable{};
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (uint32_t i = 0; i < kNodes; ++i) check(node(i), "launch");
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  check(cudaGraphDestroy(graph), "graph");
  return executable;
}

// Words of a table in which each of `rows` columns chooses equally many of the live experts.
std::vector<uint32_t> route_words(std::vector<uint32_t> experts, uint32_t rows) {
  const auto live = static_cast<uint32_t>(experts.size());
  std::sort(experts.begin(), experts.end());
  std::vector<uint32_t> words(RouteTable::words(live, kMaxPairs), 0);
  RouteTable table = RouteTable::at(words.data(), live, kMaxPairs);
  const uint32_t pairs = std::max(live, 8 * rows);
  *table.num_slots = live;
  uint32_t pair = 0;
  for (uint32_t slot = 0; slot < live; ++slot) {
    table.expert[slot] = experts[slot];
    table.pair_begin[slot] = pair;
    std::vector<uint32_t> columns;
    for (uint32_t p = slot; p < pairs; p += live) columns.push_back(p % rows);
    std::sort(columns.begin(), columns.end());
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    for (const uint32_t column : columns) {
      table.pair_column[pair] = column;
      table.pair_weight[pair++] = 0.125F;
    }
  }
  table.pair_begin[live] = pair;
  return words;
}

struct Row {
  std::string kernel;
  uint32_t rows, width;
  double us, drain_us, bytes;
};

class Bench {
 public:
  explicit Bench(uint32_t live) : live_(live) {
    check(cudaStreamCreate(&stream_), "stream");
    gate_up_ = allocate<std::byte>(2 * kExperts * kMatrixBytes);
    down_ = allocate<std::byte>(kExperts * kMatrixBytes);
    fill_pages<<<1056, 512>>>(reinterpret_cast<uint32_t*>(gate_up_),
                              2 * kExperts * kMatrixBytes / 4, GateUpPage::kBytes,
                              GateUpPage::kCodeBytes);
    fill_pages<<<1056, 512>>>(reinterpret_cast<uint32_t*>(down_), kExperts * kMatrixBytes / 4,
                              DownPage::kBytes, DownPage::kCodeBytes);
    input_ = allocate<std::byte>(gate_up_input_bytes(64, kHidden));
    h_ = allocate<std::byte>(down_input_bytes(64, kIntermediate, kMaxLive));
    rows_ = allocate<float>(64 * kHidden);
    partials_ = allocate<float>(uint64_t{64} * kReductionChunks * kHidden);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> rows(64 * kHidden);
    for (float& value : rows) value = normal(random);
    check(cudaMemcpy(rows_, rows.data(), rows.size() * 4, cudaMemcpyDefault), "copy");
  }

  // Seconds for 8 GB, as TB/s.
  double ceiling() {
    const uint64_t count = (uint64_t{8} << 30) / GateUpPage::kBytes;
    auto* pages = allocate<std::byte>(count * GateUpPage::kBytes);
    fill_pages<<<1056, 512>>>(reinterpret_cast<uint32_t*>(pages), count * GateUpPage::kBytes / 4,
                              GateUpPage::kBytes, GateUpPage::kCodeBytes);
    const uint32_t bytes = kDrainStages * GateUpPage::kBytes;
    check(cudaFuncSetAttribute(drain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          "attribute");
    int sms = 0;
    check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "attribute");
    std::vector<float> times;
    Timer timer(stream_);
    for (uint32_t i = 0; i < 15; ++i) {
      times.push_back(timer.microseconds([&] {
        drain_kernel<<<sms, kDrainThreads, bytes, stream_>>>(pages, static_cast<uint32_t>(count),
                                                             reinterpret_cast<uint32_t*>(h_));
      }));
    }
    check(cudaFree(pages), "free");
    return static_cast<double>(count) * GateUpPage::kBytes / median(times) / 1e6;
  }

  void measure(uint32_t rows, uint32_t width, std::vector<Row>& table) {
    make_tables(rows);
    ExpertLaunch launch;
    launch.columns = width;
    launch.hidden = kHidden;
    launch.intermediate = kIntermediate;
    check(set_clusters(&launch), "clusters");
    check(launch_quantize(launch, {rows_, nullptr, 0, input_}, stream_), "quantize");
    const auto gate_up = [&](ExpertLaunch node, uint32_t i) {
      node.route = route(i);
      return launch_expert_gate_up(node, {gate_up_, input_, h_, nullptr}, stream_);
    };
    const auto down = [&](ExpertLaunch node, uint32_t i) {
      node.route = route(i);
      return launch_expert_down(node, {down_, h_, partials_, 0}, stream_);
    };
    const double down_bytes = static_cast<double>(live_ * kMatrixBytes);
    table.push_back(compare("gate/up", rows, launch, 2 * down_bytes, gate_up));
    check(gate_up(launch, 0), "gate/up");
    table.push_back(compare("down", rows, launch, down_bytes, down));
    table.push_back(
        compare("both", rows, launch, 3 * down_bytes, [&](ExpertLaunch node, uint32_t i) {
          const cudaError_t error = gate_up(node, i);
          return error == cudaSuccess ? down(node, i) : error;
        }));
  }

 private:
  void make_tables(uint32_t rows) {
    std::vector<uint32_t> experts(kExperts);
    std::iota(experts.begin(), experts.end(), 0);
    std::shuffle(experts.begin(), experts.end(), std::mt19937(7));
    for (uint32_t i = 0; i < kExperts / live_; ++i) {
      const auto words =
          route_words({experts.begin() + i * live_, experts.begin() + (i + 1) * live_}, rows);
      if (tables_[i] == nullptr) tables_[i] = allocate<uint32_t>(words.size());
      check(cudaMemcpy(tables_[i], words.data(), words.size() * 4, cudaMemcpyDefault), "copy");
    }
  }
  RouteTable route(uint32_t i) const {
    return RouteTable::at(tables_[i % (kExperts / live_)], live_, kMaxPairs);
  }

  // Alternates between products and drain, so that both see the same clocks.
  template <class Node>
  Row compare(const char* kernel, uint32_t rows, ExpertLaunch launch, double bytes,
              const Node& node) {
    const cudaGraphExec_t products =
        make_graph(stream_, [&](uint32_t i) { return node(launch, i); });
    launch.work = ExpertLaunch::Work::kDrain;
    const cudaGraphExec_t drain = make_graph(stream_, [&](uint32_t i) { return node(launch, i); });
    Timer timer(stream_);
    std::vector<float> times, drain_times;
    for (uint32_t i = 0; i < kRepetitions + 2; ++i) {
      const auto run = [&](cudaGraphExec_t graph) {
        return timer.microseconds([&] { check(cudaGraphLaunch(graph, stream_), "graph"); });
      };
      const float us = run(products), drain_us = run(drain);
      if (i < 2) continue;
      times.push_back(us / kNodes);
      drain_times.push_back(drain_us / kNodes);
    }
    check(cudaGraphExecDestroy(products), "graph");
    check(cudaGraphExecDestroy(drain), "graph");
    return {kernel, rows, launch.columns, median(times), median(drain_times), bytes};
  }

  uint32_t live_;
  cudaStream_t stream_{};
  std::byte *gate_up_, *down_, *input_, *h_;
  float *rows_, *partials_;
  uint32_t* tables_[kExperts] = {};
};

void print(const std::vector<Row>& table, const char* device, double ceiling, bool as_json) {
  if (as_json) {
    std::printf("{\"device\": \"%s\", \"ceiling_tb_s\": %.3f, \"kernels\": [", device, ceiling);
  } else {
    std::printf("%s, drain of 8 GB: %.3f TB/s\n", device, ceiling);
    std::printf("%-8s %5s %6s %9s %9s %9s %7s %8s %9s\n", "kernel", "rows", "width", "us",
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
      std::printf("%-8s %5u %6u %9.2f %9.2f %9.1f %7.0f %7.1f%% %8.1f%%\n", row.kernel.c_str(),
                  row.rows, row.width, row.us, row.drain_us, row.bytes / 1e6, rate, 100 * of_drain,
                  100 * of_ceiling);
    }
  }
  if (as_json) std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  bool as_json = false;
  uint32_t live = 60;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) as_json = true;
    if (std::strcmp(argv[i], "--live") == 0 && i + 1 < argc) {
      live = std::clamp(static_cast<uint32_t>(std::atoi(argv[++i])), 1u, kMaxLive);
    }
  }
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  ExpertLaunch launch;
  check(set_clusters(&launch), "clusters");
  std::fprintf(stderr, "%d multiprocessors, at most %u clusters of 4, %u of 2\n",
               device.multiProcessorCount, launch.gate_up_clusters, launch.down_clusters);
  Bench bench(live);
  const double ceiling = bench.ceiling();
  std::vector<Row> table;
  bench.measure(8, 8, table);
  bench.measure(1, 8, table);
  for (const uint32_t width : {16, 32, 64}) bench.measure(width, width, table);
  print(table, device.name, ceiling, as_json);
  return 0;
}
