// What attention of a decode step costs beside reading its keys and values alone
// (ops/flash_attention.h). Needs CUDA 13 and an H100 or H200:
//   nvcc -std=c++20 --expt-relaxed-constexpr -fmad=false -O3 -Isrc -cudart static -gencode
//   arch=compute_90a,code=sm_90a
//     bench/gpu_attention.cu src/cuda/ops/flash_attention.cu -o gpu_attention
//   gpu_attention [--sweep]
//
// One KV head, 16 query heads, as a rank of 8 has them. Each row compares the kernel with a drain:
// the same launch, ring and tiles, read and dropped. Nodes of a CUDA graph, one behind the other,
// each with pages of its own, and an L2 that other bytes went through before.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/ops/flash_attention.h"

namespace {

using namespace ultraspeed::cuda;
using Work = FlashAttention::Work;

constexpr uint32_t kQueryHeads = 16;
constexpr uint32_t kNodes = 12, kRepetitions = 15;
constexpr uint32_t kChunk = 1024;
constexpr uint32_t kMaxContext = 128 * 1024, kMaxColumns = 64;
constexpr uint32_t kPages = kNodes * (kMaxContext / kKvTilePositions + 2);
constexpr uint32_t kRings = kNodes, kRingPositions = 1024;
constexpr uint64_t kFlushBytes = uint64_t{256} << 20;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* allocate(uint64_t count) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, count * sizeof(T)), "cudaMalloc");
  check(cudaMemset(memory, 0, count * sizeof(T)), "cudaMemset");
  return static_cast<T*>(memory);
}

template <class T>
T* upload(const std::vector<T>& values) {
  T* memory = allocate<T>(values.size());
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyDefault), "copy");
  return memory;
}

__global__ void read_kernel(const uint4* words, uint64_t count, uint32_t* output) {
  uint32_t bits = 0;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += uint64_t{gridDim.x} * blockDim.x) {
    bits ^= words[i].x;
  }
  if (bits == 0x9e3779b9u) *output = bits;
}

double median(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A step of one sequence: columns at context, context + 1, ...
StepView* make_step(uint32_t sequence, uint32_t context, uint32_t columns, const uint32_t* pages) {
  std::vector<StepColumn> of_step(columns);
  for (uint32_t i = 0; i < columns; ++i) {
    of_step[i].position = context + i;
    of_step[i].sequence = sequence;
    of_step[i].end_column = columns;
  }
  return upload<StepView>({{columns, upload(of_step), pages}});
}

struct Row {
  uint32_t context, width, chunk;
  double us, drain_us, bytes;
};

class Bench {
 public:
  explicit Bench(KvFormat format) : format_(format) {
    check(cudaStreamCreate(&stream_), "stream");
    check(cudaDeviceGetAttribute(&num_sms_, cudaDevAttrMultiProcessorCount, 0), "attribute");
    const uint64_t tile_bytes = kv_tile_bytes(format);
    const auto* scales = upload(std::vector<KvScales>{{0.5F, 0.5F}});
    if (format == KvFormat::kBf16) scales = nullptr;
    paged_ = {allocate<std::byte>(kPages * tile_bytes), scales, 1, 0, kKvTilePositions};
    rings_ = {allocate<std::byte>(kRings * kRingPositions / kKvTilePositions * tile_bytes), scales,
              1, kRingPositions, 0};
    std::mt19937 random(1);
    std::vector<uint32_t> pages(kPages);
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), random);
    pages_ = upload(pages);
    flush_ = allocate<uint4>(kFlushBytes / 16);
    std::normal_distribution<float> normal;
    std::vector<float> query(kMaxColumns * kQueryHeads * kFlashHeadDim);
    for (float& value : query) value = normal(random);
    query_ = allocate<std::byte>(query_operand_bytes(format, kMaxColumns, kQueryHeads));
    query_scales_ = allocate<float>(kMaxColumns * kQueryHeads);
    check(launch_store_queries(
              {upload(query), kMaxColumns, kQueryHeads, 1,
               1 / std::sqrt(static_cast<float>(kFlashHeadDim)), format, query_, query_scales_},
              stream_),
          "queries");
    sinks_ = upload(std::vector<float>(kQueryHeads, 0.5F));
    output_ = allocate<float>(kMaxColumns * kQueryHeads * kFlashValueDim);
    const uint64_t units = flash_units(kMaxColumns, kMaxContext + kMaxColumns, kQueryHeads, 1, 256);
    partials_ = {allocate<float>(units * kFlashRows * kFlashValueDim),
                 allocate<float2>(units * kFlashRows), allocate<uint32_t>(2)};
    fill(random);
  }

  Row measure(uint32_t context, uint32_t width, uint32_t chunk) {
    FlashAttention launch = common();
    launch.cache = paged_;
    launch.chunk_positions = chunk;
    std::vector<StepView*> steps;
    for (uint32_t i = 0; i < kNodes; ++i) {
      steps.push_back(make_step(0, context, width, pages_ + i * (kPages / kNodes)));
    }
    const double tiles = (context + width + kKvTilePositions - 1) / kKvTilePositions;
    return {context,
            width,
            chunk,
            time(launch, steps, Work::kAttention),
            time(launch, steps, Work::kDrain),
            tiles * kv_tile_bytes(format_)};
  }

  Row measure_sliding(uint32_t width, bool follows_grid) {
    FlashAttention launch = common();
    launch.cache = rings_;
    launch.window = 128;
    launch.sinks = sinks_;
    launch.follows_grid = follows_grid;
    std::vector<StepView*> steps;
    for (uint32_t i = 0; i < kNodes; ++i)
      steps.push_back(make_step(i, 1000 + 37 * i, width, pages_));
    return {128,
            width,
            0,
            time(launch, steps, Work::kAttention),
            time(launch, steps, Work::kDrain),
            3.0 * kv_tile_bytes(format_)};
  }

 private:
  // Random rows everywhere, in steps of as many as `rows` holds.
  void fill(std::mt19937& random) {
    constexpr uint32_t kRows = 16384;
    std::normal_distribution<float> normal;
    std::vector<float> rows(kRows * (kFlashHeadDim + kFlashValueDim));
    for (float& value : rows) value = normal(random);
    float* memory = upload(rows);
    const auto store = [&](const KvTiles& cache, const StepView* step, uint32_t columns) {
      check(launch_store_kv({step, columns, cache, format_, memory, memory + kRows * kFlashHeadDim},
                            stream_),
            "store");
    };
    for (uint32_t page = 0; page < kPages; page += kRows / kKvTilePositions) {
      const uint32_t columns = std::min(kRows, (kPages - page) * kKvTilePositions);
      store(paged_, make_step(0, 0, columns, pages_ + page), columns);
    }
    for (uint32_t i = 0; i < kRings; ++i) {
      store(rings_, make_step(i, 0, kRingPositions, pages_), kRingPositions);
    }
    check(cudaStreamSynchronize(stream_), "fill");
    check(cudaFree(memory), "free");
  }

  FlashAttention common() const {
    FlashAttention launch;
    launch.format = format_;
    launch.query = query_;
    launch.query_scales = query_scales_;
    launch.output = output_;
    launch.num_q_heads = kQueryHeads;
    launch.partials = partials_;
    launch.num_ctas = static_cast<uint32_t>(num_sms_);
    return launch;
  }

  // Microseconds a node.
  double time(FlashAttention launch, const std::vector<StepView*>& steps, Work work) {
    launch.work = work;
    cudaGraph_t graph{};
    cudaGraphExec_t executable{};
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), "capture");
    for (const StepView* step : steps) {
      launch.step = step;
      check(launch_flash_attention(launch, stream_), "launch");
    }
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
    cudaEvent_t begin{}, end{};
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    std::vector<float> times;
    for (uint32_t i = 0; i < kRepetitions; ++i) {
      read_kernel<<<num_sms_ * 4, 512, 0, stream_>>>(flush_, kFlushBytes / 16,
                                                     partials_.arrivals + 1);
      check(cudaEventRecord(begin, stream_), "record");
      check(cudaGraphLaunch(executable, stream_), "graph");
      check(cudaEventRecord(end, stream_), "record");
      check(cudaEventSynchronize(end), "run");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end), "elapsed");
      if (i >= 2) times.push_back(ms * 1000 / static_cast<float>(steps.size()));
    }
    check(cudaGraphExecDestroy(executable), "graph");
    check(cudaGraphDestroy(graph), "graph");
    check(cudaEventDestroy(begin), "event");
    check(cudaEventDestroy(end), "event");
    return median(times);
  }

  KvFormat format_;
  cudaStream_t stream_{};
  int num_sms_ = 0;
  KvTiles paged_, rings_;
  uint32_t* pages_;
  uint4* flush_;
  std::byte* query_;
  float *query_scales_, *sinks_, *output_;
  FlashPartials partials_;
};

void print(const char* format, const Row& row) {
  std::printf("%-14s %7u %4u %5u %8.2f %8.2f %7.2f %6.0f %6.3f\n", format, row.context, row.width,
              row.chunk, row.us, row.drain_us, row.bytes / 1e6, row.bytes / row.us / 1e3,
              row.us / row.drain_us);
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_sweep = argc > 1 && std::strcmp(argv[1], "--sweep") == 0;
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  std::printf("%s\nformat, context, columns, chunk, us, drain us, MB, GB/s, us / drain us\n",
              device.name);
  for (const KvFormat format : {KvFormat::kE4m3, KvFormat::kBf16}) {
    const char* name = format == KvFormat::kE4m3 ? "e4m3" : "bf16";
    Bench bench(format);
    for (const uint32_t context : {1024u, 8192u, 32768u, 131072u - 8}) {
      for (const uint32_t chunk : {256u, 512u, 1024u}) {
        if (is_sweep || chunk == kChunk) print(name, bench.measure(context, 8, chunk));
      }
      for (const uint32_t width : {16u, 32u, 64u}) {
        print(name, bench.measure(context, width, kChunk));
      }
    }
    print("window", bench.measure_sliding(8, false));
    print("window, early", bench.measure_sliding(8, true));
  }
  return 0;
}
