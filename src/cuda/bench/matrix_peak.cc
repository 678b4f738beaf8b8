#include "cuda/bench/matrix_peak.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <utility>

#include "cuda/bench/synthetic.h"
#include "cuda/device.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint64_t kPeakSize = 8192;
constexpr uint64_t kPeakWorkspaceBytes = uint64_t{64} << 20;
constexpr uint32_t kPeakNodes = 4, kPeakWarmUps = 3, kPeakRepetitions = 31;

// The library stays loaded: it has threads and memory of its own.
void* load_cublas() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW);
  }
  return library;
}

template <class Function, class... Arguments>
cublasStatus_t call_cublas(Function* /*type*/, void* library, const char* name,
                           Arguments... arguments) {
  void* symbol = dlsym(library, name);
  return symbol == nullptr ? CUBLAS_STATUS_NOT_SUPPORTED
                           : reinterpret_cast<Function*>(symbol)(arguments...);
}
// Looks `name` up in the library `library_`.
#define US_CUBLAS(name, ...) \
  call_cublas(static_cast<decltype(&(name))>(nullptr), library_, #name, __VA_ARGS__)

// d = a^T b, all square, a and b e4m3, d bf16.
class LargeProduct {
 public:
  explicit LargeProduct(void* library) : library_(library) {}
  ~LargeProduct() {
    if (preference_ != nullptr) US_CUBLAS(cublasLtMatmulPreferenceDestroy, preference_);
    if (out_ != nullptr) US_CUBLAS(cublasLtMatrixLayoutDestroy, out_);
    if (in_ != nullptr) US_CUBLAS(cublasLtMatrixLayoutDestroy, in_);
    if (operation_ != nullptr) US_CUBLAS(cublasLtMatmulDescDestroy, operation_);
    if (handle_ != nullptr) US_CUBLAS(cublasLtDestroy, handle_);
  }
  LargeProduct(const LargeProduct&) = delete;
  LargeProduct& operator=(const LargeProduct&) = delete;

  // Before run(): what can be refused by the library, and memory.
  Result<cublasStatus_t> prepare(cudaStream_t stream) {
    US_TRY(make_matrices(stream));
    cublasStatus_t status = describe();
    if (status == CUBLAS_STATUS_SUCCESS) status = choose();
    return status;
  }

  cublasStatus_t run(cudaStream_t stream) {
    const float one = 1;
    const float zero = 0;
    return US_CUBLAS(cublasLtMatmul, handle_, operation_, &one, a_.data(), in_, b_.data(), in_,
                     &zero, d_.data(), out_, d_.data(), out_, &choice_.algo, workspace_.data(),
                     kPeakWorkspaceBytes, stream);
  }

 private:
  Status make_matrices(cudaStream_t stream) {
    constexpr uint64_t kCodes = kPeakSize * kPeakSize;
    US_ASSIGN(a_, DeviceMemory::allocate(kCodes));
    US_ASSIGN(b_, DeviceMemory::allocate(kCodes));
    US_ASSIGN(d_, DeviceMemory::allocate(2 * kCodes));
    US_ASSIGN(workspace_, DeviceMemory::allocate(kPeakWorkspaceBytes));
    for (std::byte* codes : {a_.data(), b_.data()}) {
      US_TRY(cuda_status(fill_pages({.pages = codes,
                                     .size_bytes = kCodes,
                                     .page_bytes = kPeakSize,
                                     .code_bytes = kPeakSize,
                                     .codes = WordKind::kE4m3},
                                    stream),
                         "making large matrices"));
    }
    return {};
  }

  cublasStatus_t describe() {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const int8_t is_fast = 1;
    const auto size = static_cast<int64_t>(kPeakSize);
    const cublasStatus_t results[] = {
        US_CUBLAS(cublasLtCreate, &handle_),
        US_CUBLAS(cublasLtMatmulDescCreate, &operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        US_CUBLAS(cublasLtMatrixLayoutCreate, &in_, CUDA_R_8F_E4M3, kPeakSize, kPeakSize, size),
        US_CUBLAS(cublasLtMatrixLayoutCreate, &out_, CUDA_R_16BF, kPeakSize, kPeakSize, size),
        US_CUBLAS(cublasLtMatmulPreferenceCreate, &preference_)};
    for (const cublasStatus_t result : results) {
      if (result != CUBLAS_STATUS_SUCCESS) return result;
    }
    const cublasStatus_t result =
        US_CUBLAS(cublasLtMatmulDescSetAttribute, operation_, CUBLASLT_MATMUL_DESC_TRANSA,
                  &transposed, sizeof(transposed));
    if (result != CUBLAS_STATUS_SUCCESS) return result;
    return US_CUBLAS(cublasLtMatmulDescSetAttribute, operation_, CUBLASLT_MATMUL_DESC_FAST_ACCUM,
                     &is_fast, sizeof(is_fast));
  }

  cublasStatus_t choose() {
    const uint64_t bytes = kPeakWorkspaceBytes;
    const cublasStatus_t result =
        US_CUBLAS(cublasLtMatmulPreferenceSetAttribute, preference_,
                  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
    if (result != CUBLAS_STATUS_SUCCESS) return result;
    int count = 0;
    return US_CUBLAS(cublasLtMatmulAlgoGetHeuristic, handle_, operation_, in_, in_, out_, out_,
                     preference_, 1, &choice_, &count);
  }

  void* library_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t in_ = nullptr, out_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulHeuristicResult_t choice_ = {};
  DeviceMemory a_, b_, d_, workspace_;
};

MatrixPeak no_peak(std::string refusal) {
  return {.refusal = std::move(refusal), .flop = 0, .us = {}};
}

}  // namespace

Result<MatrixPeak> measure_matrix_peak(cudaStream_t stream) {
  void* library = load_cublas();
  if (library == nullptr) return no_peak("libcublasLt.so.13 is not installed");
  LargeProduct product(library);
  US_ASSIGN(cublasStatus_t status, product.prepare(stream));
  US_ASSIGN(const Event begin, make_event());
  US_ASSIGN(const Event end, make_event());
  MatrixPeak peak;
  peak.flop = 2 * kPeakSize * kPeakSize * kPeakSize;
  for (uint32_t i = 0; i < kPeakWarmUps + kPeakRepetitions; ++i) {
    US_TRY(cuda_status(cudaEventRecord(begin.get(), stream), "timing"));
    for (uint32_t node = 0; node < kPeakNodes && status == CUBLAS_STATUS_SUCCESS; ++node) {
      status = product.run(stream);
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
      return no_peak(fmt::format("cuBLASLt gives status {}", static_cast<int>(status)));
    }
    US_TRY(cuda_status(cudaEventRecord(end.get(), stream), "timing"));
    US_TRY(cuda_status(cudaEventSynchronize(end.get()), "multiplying large matrices"));
    float milliseconds = 0;
    US_TRY(cuda_status(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "timing"));
    const double us = 1000.0 * static_cast<double>(milliseconds);
    if (i >= kPeakWarmUps) peak.us.push_back(us / kPeakNodes);
  }
  return peak;
}

}  // namespace ultraspeed::cuda
