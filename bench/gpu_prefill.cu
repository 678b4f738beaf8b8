// How near the prefill form of the expert kernels (cuda/ops/expert_w4a8_prefill.h) comes to the
// limits of this GPU, at the shape of a rank of 8 of the trillion-parameter model: gate/up
// 512 x 6144, down 6144 x 256, 384 experts, 8 a token.
//
//   nvcc -std=c++20 --expt-relaxed-constexpr -fmad=false -O3 -Isrc
//     -gencode arch=compute_90a,code=sm_90a
//     bench/gpu_prefill.cu src/cuda/ops/expert_w4a8_prefill.cu -ldl -o gpu_prefill
//   gpu_prefill [--json] [--cublaslt PATH]
//
// Limits, measured in the same run: a drain of 8 GB in one launch (bytes), and cuBLASLt's product
// of e4m3 matrices 8192^3 (FLOP; the library is loaded at run time). The bound of a step is the
// larger of weight bytes by the drain's rate and useful FLOP by the product's. Beside each kernel
// stands its own drain: the same launch, ring, pages and gathered columns, read and dropped.
#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/page_ring.cuh"
#include "program/operand_ids.h"

namespace {

using namespace ultraspeed::cuda;
using ultraspeed::program::kReductionChunks;
using ultraspeed::program::RouteTable;

constexpr uint32_t kHidden = 6144, kIntermediate = 256;
constexpr uint32_t kExperts = 384, kExpertsPerToken = 8, kMaxTokens = 2048;
constexpr uint32_t kMaxPairs = kMaxTokens * kExpertsPerToken;
constexpr uint64_t kMatrixBytes = uint64_t{kHidden} * kIntermediate * 17 / 32;  // of down
constexpr uint32_t kNodes = 4, kRepetitions = 9;

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
  for (uint32_t i = 0; i < kNodes; ++i) check(node(), "launch");
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  check(cudaGraphDestroy(graph), "graph");
  return executable;
}

// cuBLASLt's rate for e4m3 x e4m3 -> bf16, n^3, in TFLOP/s; 0 if there is no library.
class MatrixPeak {
 public:
  explicit MatrixPeak(const char* path) {
    const char* names[] = {path, "libcublasLt.so.13", "libcublasLt.so.12"};
    for (const char* name : names) {
      if (library_ == nullptr && name != nullptr) library_ = dlopen(name, RTLD_NOW);
    }
  }

  double measure(cudaStream_t stream, uint64_t n) {
    if (library_ == nullptr) return 0;
    auto* a = allocate<uint32_t>(n * n / 4);
    auto* b = allocate<uint32_t>(n * n / 4);
    auto* d = allocate<uint16_t>(n * n);
    void* workspace = allocate<std::byte>(kWorkspaceBytes);
    std::vector<uint32_t> random(n * n / 4);
    std::mt19937 generator(2);
    for (uint32_t& word : random) word = static_cast<uint32_t>(generator()) & 0xbfbfbfbfu;
    check(cudaMemcpy(a, random.data(), n * n, cudaMemcpyDefault), "copy");
    check(cudaMemcpy(b, random.data(), n * n, cudaMemcpyDefault), "copy");
    const double rate = run(stream, n, a, b, d, workspace);
    for (void* memory :
         {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(d), workspace}) {
      check(cudaFree(memory), "free");
    }
    return rate;
  }

 private:
  static constexpr uint64_t kWorkspaceBytes = 64 << 20;

  template <class Function>
  Function* find(Function*, const char* name) {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) {
      std::fprintf(stderr, "libcublasLt has no %s\n", name);
      std::exit(1);
    }
    return reinterpret_cast<Function*>(symbol);
  }
  static void check_blas(cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    std::fprintf(stderr, "cublasLt: status %d\n", static_cast<int>(status));
    std::exit(1);
  }

#define US_CUBLAS(name) find(static_cast<decltype(&(name))>(nullptr), #name)
  double run(cudaStream_t stream, uint64_t n, const void* a, const void* b, void* d,
             void* workspace) {
    cublasLtHandle_t handle{};
    check_blas(US_CUBLAS(cublasLtCreate)(&handle));
    cublasLtMatmulDesc_t product{};
    check_blas(US_CUBLAS(cublasLtMatmulDescCreate)(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const auto set = US_CUBLAS(cublasLtMatmulDescSetAttribute);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const int8_t is_fast = 1;
    check_blas(set(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)));
    check_blas(set(product, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &is_fast, sizeof(is_fast)));
    cublasLtMatrixLayout_t in{}, out{};
    const auto layout = US_CUBLAS(cublasLtMatrixLayoutCreate);
    check_blas(layout(&in, CUDA_R_8F_E4M3, n, n, static_cast<int64_t>(n)));
    check_blas(layout(&out, CUDA_R_16BF, n, n, static_cast<int64_t>(n)));
    cublasLtMatmulPreference_t preference{};
    check_blas(US_CUBLAS(cublasLtMatmulPreferenceCreate)(&preference));
    check_blas(US_CUBLAS(cublasLtMatmulPreferenceSetAttribute)(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
        sizeof(kWorkspaceBytes)));
    cublasLtMatmulHeuristicResult_t choice{};
    int count = 0;
    check_blas(US_CUBLAS(cublasLtMatmulAlgoGetHeuristic)(handle, product, in, in, out, out,
                                                         preference, 1, &choice, &count));
    const float one = 1, zero = 0;
    const auto multiply = US_CUBLAS(cublasLtMatmul);
    Timer timer(stream);
    std::vector<float> times;
    for (uint32_t i = 0; i < 3 + kRepetitions; ++i) {
      const float us = timer.microseconds([&] {
        for (uint32_t node = 0; node < kNodes; ++node) {
          check_blas(multiply(handle, product, &one, a, in, b, in, &zero, d, out, d, out,
                              &choice.algo, workspace, kWorkspaceBytes, stream));
        }
      });
      if (i >= 3) times.push_back(us / kNodes);
    }
    return 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) /
           median(times) / 1e6;
  }
#undef US_CUBLAS

  void* library_ = nullptr;
};

// Tokens that choose kExpertsPerToken of kExperts, expert e in proportion to (e + 1)^-skew.
struct Routing {
  Routing(uint32_t num_tokens, double skew) : tokens(num_tokens), chosen(kExperts) {
    std::mt19937 random(num_tokens);
    std::uniform_real_distribution<double> uniform(1e-12, 1);
    std::vector<std::pair<double, uint32_t>> keys(kExperts);
    for (uint32_t token = 0; token < tokens; ++token) {
      for (uint32_t e = 0; e < kExperts; ++e) {
        keys[e] = {std::log(-std::log(uniform(random))) + skew * std::log(e + 1.0), e};
      }
      std::partial_sort(keys.begin(), keys.begin() + kExpertsPerToken, keys.end());
      for (uint32_t i = 0; i < kExpertsPerToken; ++i) chosen[keys[i].second].push_back(token);
    }
    for (const auto& of_expert : chosen) {
      live += !of_expert.empty();
      largest = std::max(largest, static_cast<uint32_t>(of_expert.size()));
      columns += (static_cast<uint32_t>(of_expert.size()) + 7) / 8 * 8;
    }
  }

  uint32_t pairs() const { return tokens * kExpertsPerToken; }
  std::vector<uint32_t> words() const {
    std::vector<uint32_t> all(RouteTable::words(kExperts, kMaxPairs), 0);
    RouteTable table = RouteTable::at(all.data(), kExperts, kMaxPairs);
    uint32_t slot = 0, pair = 0;
    for (uint32_t e = 0; e < kExperts; ++e) {
      if (chosen[e].empty()) continue;
      table.expert[slot] = e;
      table.pair_begin[slot++] = pair;
      for (const uint32_t token : chosen[e]) {
        table.pair_column[pair] = token;
        table.pair_weight[pair++] = 0.125F;
      }
    }
    table.pair_begin[slot] = pair;
    *table.num_slots = slot;
    return all;
  }

  uint32_t tokens;
  std::vector<std::vector<uint32_t>> chosen;
  uint32_t live = 0, largest = 0, columns = 0;
};

struct Row {
  std::string routing;
  uint32_t tokens, live, largest, columns;
  double prepare_us, gate_up_us, gate_up_drain_us, down_us, down_drain_us, both_us;
  double byte_us, flop_us;  // bounds of both
  double flop;

  double bound_us() const { return std::max(byte_us, flop_us); }
};

class Bench {
 public:
  Bench() {
    check(cudaStreamCreate(&stream_), "stream");
    check(cudaDeviceGetAttribute(&ctas_, cudaDevAttrMultiProcessorCount, 0), "attribute");
    gate_up_ = allocate<std::byte>(2 * kExperts * kMatrixBytes);
    down_ = allocate<std::byte>(kExperts * kMatrixBytes);
    fill(gate_up_, 2 * kExperts * kMatrixBytes, GateUpPage::kBytes, GateUpPage::kCodeBytes);
    fill(down_, kExperts * kMatrixBytes, DownPage::kBytes, DownPage::kCodeBytes);
    rows_ = allocate<float>(uint64_t{kMaxTokens} * kHidden);
    codes_ = allocate<std::byte>(uint64_t{kMaxTokens} * kHidden);
    scales_ = allocate<std::byte>(uint64_t{kMaxTokens} * kHidden / 32);
    h_ = allocate<std::byte>(prefill_h_bytes(kExperts, kMaxPairs, kIntermediate));
    counters_ = allocate<SectionCounters>(kHidden / 128);
    partials_ = allocate<float>(uint64_t{kMaxTokens} * kReductionChunks * kHidden);
    route_ = allocate<uint32_t>(RouteTable::words(kExperts, kMaxPairs));
    tiles_ = allocate<uint32_t>(ExpertTiles::words(kExperts, kMaxPairs, kMaxPairs));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> rows(uint64_t{kMaxTokens} * kHidden);
    for (float& value : rows) value = normal(random);
    check(cudaMemcpy(rows_, rows.data(), rows.size() * 4, cudaMemcpyDefault), "copy");
  }

  cudaStream_t stream() const { return stream_; }

  // Of 8 GB, in TB/s.
  double ceiling() {
    const uint64_t count = (uint64_t{8} << 30) / GateUpPage::kBytes;
    auto* pages = allocate<std::byte>(count * GateUpPage::kBytes);
    fill(pages, count * GateUpPage::kBytes, GateUpPage::kBytes, GateUpPage::kCodeBytes);
    const uint32_t bytes = kDrainStages * GateUpPage::kBytes;
    check(cudaFuncSetAttribute(drain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          "attribute");
    std::vector<float> times;
    Timer timer(stream_);
    for (uint32_t i = 0; i < 9; ++i) {
      times.push_back(timer.microseconds([&] {
        drain_kernel<<<ctas_, kDrainThreads, bytes, stream_>>>(pages, static_cast<uint32_t>(count),
                                                               reinterpret_cast<uint32_t*>(h_));
      }));
    }
    check(cudaFree(pages), "free");
    return static_cast<double>(count) * GateUpPage::kBytes / median(times) / 1e6;
  }

  Row measure(const char* name, const Routing& routing, double ceiling, double peak) {
    const std::vector<uint32_t> words = routing.words();
    check(cudaMemcpy(route_, words.data(), words.size() * 4, cudaMemcpyDefault), "copy");
    ExpertPrefill launch;
    launch.route = RouteTable::at(route_, kExperts, kMaxPairs);
    launch.tiles = ExpertTiles::at(tiles_, kExperts, kMaxPairs);
    launch.num_tokens = routing.tokens;
    launch.experts_per_token = kExpertsPerToken;
    launch.max_pairs = kMaxPairs;
    launch.hidden = kHidden;
    launch.intermediate = kIntermediate;
    launch.num_ctas = static_cast<uint32_t>(ctas_);
    const uint32_t section_groups = prefill_section_groups(launch);
    check(cudaFree(products_), "free");
    products_ = allocate<float>(prefill_product_bytes(launch, section_groups) / 4);
    ExpertPrefill drain = launch;
    drain.work = ExpertPrefill::Work::kDrain;
    const auto prepare = [&] {
      const cudaError_t error = launch_expert_tiles(launch, stream_);
      return error != cudaSuccess
                 ? error
                 : launch_prefill_quantize(launch, rows_, {codes_, scales_}, stream_);
    };
    const auto gate_up = [&](const ExpertPrefill& form) {
      return launch_prefill_gate_up(form, {gate_up_, {codes_, scales_}, h_, nullptr}, stream_);
    };
    const auto down = [&](const ExpertPrefill& form) {
      return launch_prefill_down(
          form, {down_, h_, products_, counters_, partials_, 0, section_groups}, stream_);
    };
    const std::vector<double> us =
        time({make_graph(stream_, prepare), make_graph(stream_, [&] { return gate_up(launch); }),
              make_graph(stream_, [&] { return gate_up(drain); }),
              make_graph(stream_, [&] { return down(launch); }),
              make_graph(stream_, [&] { return down(drain); }), make_graph(stream_, [&] {
                const cudaError_t error = gate_up(launch);
                return error == cudaSuccess ? down(launch) : error;
              })});
    const double flop = 2.0 * 3 * kHidden * kIntermediate * routing.pairs();
    const double bytes = 3.0 * static_cast<double>(routing.live * kMatrixBytes);
    return {name,
            routing.tokens,
            routing.live,
            routing.largest,
            routing.columns,
            us[0],
            us[1],
            us[2],
            us[3],
            us[4],
            us[5],
            bytes / ceiling / 1e6,
            peak > 0 ? flop / peak / 1e6 : 0,
            flop};
  }

 private:
  static void fill(std::byte* pages, uint64_t bytes, uint32_t page_bytes, uint32_t code_bytes) {
    fill_pages<<<1056, 512>>>(reinterpret_cast<uint32_t*>(pages), bytes / 4, page_bytes,
                              code_bytes);
  }

  // The graphs take turns, so that all see the same clocks.
  std::vector<double> time(const std::vector<cudaGraphExec_t>& graphs) {
    std::vector<std::vector<float>> times(graphs.size());
    Timer timer(stream_);
    for (uint32_t i = 0; i < 2 + kRepetitions; ++i) {
      for (size_t g = 0; g < graphs.size(); ++g) {
        const float us =
            timer.microseconds([&] { check(cudaGraphLaunch(graphs[g], stream_), "graph"); });
        if (i >= 2) times[g].push_back(us / kNodes);
      }
    }
    std::vector<double> medians;
    for (size_t g = 0; g < graphs.size(); ++g) {
      medians.push_back(median(times[g]));
      check(cudaGraphExecDestroy(graphs[g]), "graph");
    }
    return medians;
  }

  cudaStream_t stream_{};
  int ctas_ = 0;
  std::byte *gate_up_, *down_, *codes_, *scales_, *h_;
  float *rows_, *partials_;
  float* products_ = nullptr;
  SectionCounters* counters_;
  uint32_t *route_, *tiles_;
};

void print(const std::vector<Row>& table, const char* device, double ceiling, double peak,
           bool as_json) {
  if (as_json) {
    std::printf("{\"device\": \"%s\", \"ceiling_tb_s\": %.3f, \"peak_tflop_s\": %.1f, \"steps\": [",
                device, ceiling, peak);
  } else {
    std::printf("%s, drain of 8 GB: %.3f TB/s, e4m3 8192^3: %.0f TFLOP/s\n", device, ceiling, peak);
    std::printf("%-8s %6s %4s %5s %7s | %7s | %8s %8s | %8s %8s | %8s | %7s %7s %6s | %7s %6s\n",
                "routing", "tokens", "live", "most", "columns", "prepare", "gate/up", "drain",
                "down", "drain", "both us", "byte us", "flop us", "bound", "TFLOP/s", "peak");
  }
  const char* separator = "";
  for (const Row& row : table) {
    const double rate = row.flop / row.both_us / 1e6;
    const double of_bound = row.bound_us() / row.both_us, of_peak = peak > 0 ? rate / peak : 0;
    if (as_json) {
      std::printf(
          "%s{\"routing\": \"%s\", \"tokens\": %u, \"live\": %u, \"largest\": %u, "
          "\"columns\": %u, \"prepare_us\": %.2f, \"gate_up_us\": %.2f, "
          "\"gate_up_drain_us\": %.2f, \"down_us\": %.2f, \"down_drain_us\": %.2f, "
          "\"both_us\": %.2f, \"byte_us\": %.2f, \"flop_us\": %.2f, \"of_bound\": %.4f, "
          "\"tflop_s\": %.1f, \"of_peak\": %.4f}",
          separator, row.routing.c_str(), row.tokens, row.live, row.largest, row.columns,
          row.prepare_us, row.gate_up_us, row.gate_up_drain_us, row.down_us, row.down_drain_us,
          row.both_us, row.byte_us, row.flop_us, of_bound, rate, of_peak);
      separator = ", ";
    } else {
      std::printf(
          "%-8s %6u %4u %5u %7u | %7.1f | %8.1f %8.1f | %8.1f %8.1f | %8.1f | %7.1f %7.1f %5.1f%% "
          "| %7.1f %5.1f%%\n",
          row.routing.c_str(), row.tokens, row.live, row.largest, row.columns, row.prepare_us,
          row.gate_up_us, row.gate_up_drain_us, row.down_us, row.down_drain_us, row.both_us,
          row.byte_us, row.flop_us, 100 * of_bound, rate, 100 * of_peak);
    }
  }
  if (as_json) std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  bool as_json = false;
  const char* library = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) as_json = true;
    if (std::strcmp(argv[i], "--cublaslt") == 0 && i + 1 < argc) library = argv[++i];
  }
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  Bench bench;
  const double ceiling = bench.ceiling();
  const double peak = MatrixPeak(library).measure(bench.stream(), 8192);
  std::vector<Row> table;
  for (const uint32_t tokens : {256, 512, 1024, 2048}) {
    table.push_back(bench.measure("uniform", Routing(tokens, 0), ceiling, peak));
  }
  for (const uint32_t tokens : {512, 2048}) {
    table.push_back(bench.measure("skewed", Routing(tokens, 0.7), ceiling, peak));
  }
  print(table, device.name, ceiling, peak, as_json);
  return 0;
}
