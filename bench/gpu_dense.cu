// How near the dense kernels (cuda/ops/dense.h) come to the memory speed of this GPU, at the shapes
// of rank 0 of 8 of the trillion-parameter model: qkv 3392 x 6144 (16 q heads and a kv head;
// sliding and full layers alike), o_proj 6144 x 2048, a dense layer's gate/up 4096 x 6144, router
// 384 x 6144 and head 19,072 x 6144.
//
//   nvcc -std=c++20 --expt-relaxed-constexpr -fmad=false -O3 -Isrc
//     -gencode arch=compute_90a,code=sm_90a bench/gpu_dense.cu src/cuda/ops/dense.cu
//     src/cuda/ops/dense_fp8.cu src/cuda/ops/dense_bf16.cu -o gpu_dense
//   gpu_dense [--json] [--clusters N] [--kernel NAME]
//
// How it measures: gpu_bench.cuh. "norm+" is a kernel behind the launch that makes its operand,
// beside its drain behind the same launch.
#include <cstring>
#include <random>

#include "cuda/ops/dense.h"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/dense_page.h"
#include "gpu_bench.cuh"
#include "program/operand_ids.h"

namespace {

using namespace ultraspeed::bench;
using namespace ultraspeed::cuda;
using ultraspeed::tensor::WeightFormat;

constexpr uint32_t kHidden = 6144, kQHeads = 16, kHeadDim = 192, kValueDim = 128, kRotaryDim = 64;
constexpr uint32_t kMaxWidth = 64, kMaxRows = 19072;
constexpr uint64_t kPoolBytes = uint64_t{960} << 20;  // of weights of a format: many times the L2
constexpr auto kFp8 = WeightFormat::kFp8Block128;
constexpr auto kBf16 = WeightFormat::kBf16;

enum class Kind { kQkv, kPartials, kSwiglu, kStore };

struct Kernel {
  const char* name;
  Kind kind;
  WeightFormat format;
  uint32_t rows, k, nodes;
  bool is_prepared;  // behind the launch of its operand

  uint64_t bytes() const {
    return format == kFp8 ? dense_bytes<Fp8Page>(rows, k) : dense_bytes<Bf16Page>(rows, k);
  }
};
constexpr Kernel kKernels[] = {
    {"qkv", Kind::kQkv, kFp8, 3392, kHidden, 24, false},
    {"norm+qkv", Kind::kQkv, kFp8, 3392, kHidden, 24, true},
    {"o_proj", Kind::kPartials, kFp8, kHidden, 2048, 24, false},
    {"o_proj bf16", Kind::kPartials, kBf16, kHidden, 2048, 24, false},
    {"gate/up", Kind::kSwiglu, kFp8, 4096, kHidden, 24, false},
    {"router", Kind::kStore, kBf16, 384, kHidden, 24, false},
    {"head", Kind::kStore, kBf16, kMaxRows, kHidden, 8, false},
};

class Bench {
 public:
  explicit Bench(uint32_t clusters) : clusters_(clusters) {
    check(cudaStreamCreate(&stream_), "stream");
    fp8_ = allocate<std::byte>(kPoolBytes);
    bf16_ = allocate<std::byte>(kPoolBytes);
    // Codes without NaN; scales of 2^-9; bf16 of 2^-7 .. 2^-3.
    fill_pages(fp8_, kPoolBytes,
               {Fp8Page::kBytes, Fp8Page::kCodeBytes, 0xbfbfbfbfu, 0, 0x007fffffu, 0x3b000000u});
    fill_pages(bf16_, kPoolBytes, {Bf16Page::kBytes, Bf16Page::kBytes, 0x81ff81ffu, 0x3c003c00u});
    operand_ = allocate<std::byte>(2 * dense_operand_bytes<Bf16Page>(kMaxWidth, kHidden));
    rows_ = allocate<float>(kMaxWidth * kHidden);
    output_ = allocate<float>(kMaxWidth * kMaxRows + kMaxWidth * 8 * kHidden);
    norm_ = allocate<float>(kHidden);
    cache_ = allocate<float>(kMaxWidth * (kHeadDim + kValueDim));
    rotations_ = allocate<float2>(kMaxWidth * kRotaryDim / 2);
    positions_ = allocate<uint32_t>(kMaxWidth);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> rows(kMaxWidth * kHidden);
    for (float& value : rows) value = normal(random);
    check(cudaMemcpy(rows_, rows.data(), rows.size() * 4, cudaMemcpyDefault), "copy");
    check(cudaMemcpy(norm_, rows.data(), kHidden * 4, cudaMemcpyDefault), "copy");
    std::vector<uint32_t> positions(kMaxWidth);
    for (uint32_t i = 0; i < kMaxWidth; ++i) positions[i] = i;
    check(cudaMemcpy(positions_, positions.data(), kMaxWidth * 4, cudaMemcpyDefault), "copy");
    check(launch_dense_rotations({positions_, kMaxWidth, kRotaryDim, 1e4F, rotations_}, stream_),
          "rotations");
  }

  double ceiling() const { return ceiling_tb_s(stream_); }

  Row measure(const Kernel& kernel, uint32_t rows, uint32_t width) {
    DensePrepare prepare;
    prepare.format = kernel.format;
    prepare.columns = width;
    prepare.num_columns = rows;
    prepare.k = kernel.k;
    prepare.rows = rows_;
    prepare.operand = operand_;
    if (kernel.is_prepared) prepare.norm_weight = norm_;
    prepare.epsilon = 1e-5F;
    check(launch_dense_prepare(prepare, stream_), "prepare");
    DenseLaunch launch;
    launch.format = kernel.format;
    launch.columns = width;
    launch.num_columns = rows;
    launch.rows = kernel.rows;
    launch.k = kernel.k;
    launch.operand = operand_;
    check(set_clusters(&launch), "clusters");
    if (clusters_ != 0) launch.clusters = clusters_;
    const auto node = [&](DenseLaunch::Work work, uint32_t i) {
      DenseLaunch of_node = launch;
      of_node.work = work;
      const auto copies = static_cast<uint32_t>(kPoolBytes / kernel.bytes());
      of_node.weights = (kernel.format == kFp8 ? fp8_ : bf16_) + i % copies * kernel.bytes();
      if (kernel.is_prepared) {
        const cudaError_t error = launch_dense_prepare(prepare, stream_);
        if (error != cudaSuccess) return error;
      }
      return launch_kind(kernel.kind, of_node);
    };
    const auto [us, drain_us] = compare(
        stream_, kernel.nodes, [&](uint32_t i) { return node(DenseLaunch::Work::kProducts, i); },
        [&](uint32_t i) { return node(DenseLaunch::Work::kDrain, i); });
    return {kernel.name, rows, width, us, drain_us, static_cast<double>(kernel.bytes())};
  }

 private:
  cudaError_t launch_kind(Kind kind, const DenseLaunch& launch) const {
    switch (kind) {
      case Kind::kQkv: {
        DenseQkv<float> qkv;
        qkv.num_q_heads = kQHeads;
        qkv.num_kv_heads = 1;
        qkv.head_dim = kHeadDim;
        qkv.v_head_dim = kValueDim;
        qkv.rotary_dim = kRotaryDim;
        qkv.value_scale = 0.612F;
        qkv.rotations = rotations_;
        qkv.cache_rows = positions_;
        qkv.query = output_;
        qkv.keys = cache_;
        qkv.values = cache_ + kMaxWidth * kHeadDim;
        return launch_dense(launch, qkv, stream_);
      }
      case Kind::kPartials:
        return launch_dense(launch, DensePartials{output_, 0}, stream_);
      case Kind::kSwiglu:
        return launch_dense(launch, DenseSwiglu{output_}, stream_);
      case Kind::kStore:
        return launch_dense(launch, DenseStore{output_, launch.rows, 0}, stream_);
    }
    return cudaErrorInvalidValue;
  }

  uint32_t clusters_;
  cudaStream_t stream_{};
  std::byte *fp8_, *bf16_, *operand_;
  float *rows_, *output_, *norm_, *cache_;
  float2* rotations_;
  uint32_t* positions_;
};

}  // namespace

int main(int argc, char** argv) {
  bool as_json = false;
  uint32_t clusters = 0;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) as_json = true;
    if (i + 1 == argc) break;
    if (std::strcmp(argv[i], "--clusters") == 0) {
      clusters = static_cast<uint32_t>(std::atoi(argv[i + 1]));
    }
    if (std::strcmp(argv[i], "--kernel") == 0) only = argv[i + 1];
  }
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  Bench bench(clusters);
  const double ceiling = bench.ceiling();
  std::vector<Row> table;
  bench.measure(kKernels[0], 8, 8);  // what is measured first is slower, products and drain alike
  for (const Kernel& kernel : kKernels) {
    if (!only.empty() && only != kernel.name) continue;
    table.push_back(bench.measure(kernel, 8, 8));
    table.push_back(bench.measure(kernel, 1, 8));
    for (const uint32_t width : {16, 32, 64}) table.push_back(bench.measure(kernel, width, width));
  }
  print(table, device.name, ceiling, as_json);
  return 0;
}
