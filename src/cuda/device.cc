#include "cuda/device.h"

namespace ultraspeed::cuda {

Status cuda_status(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  const ErrorCode code =
      error == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal;
  return make_error(code, "GPU: {}: {} ({})", what, cudaGetErrorString(error),
                    cudaGetErrorName(error));
}

Result<uint32_t> count_multiprocessors() {
  int device = 0, count = 0;
  US_TRY(cuda_status(cudaGetDevice(&device), "asking for the GPU"));
  US_TRY(cuda_status(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
                     "asking for the GPU's multiprocessors"));
  return static_cast<uint32_t>(count);
}

template <MemoryKind kKind>
Result<Memory<kKind>> Memory<kKind>::allocate(size_t size_bytes) {
  Memory memory;
  void* data = nullptr;
  const size_t size = size_bytes == 0 ? 1 : size_bytes;
  const cudaError_t error =
      kKind == MemoryKind::kDevice ? cudaMalloc(&data, size) : cudaMallocHost(&data, size);
  US_TRY(cuda_status(error, fmt::format("allocating {} bytes of {} memory", size,
                                        kKind == MemoryKind::kDevice ? "device" : "pinned")));
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = size_bytes;
  return memory;
}

template <MemoryKind kKind>
void Memory<kKind>::release() {
  if (data_ == nullptr) return;
  kKind == MemoryKind::kDevice ? cudaFree(data_) : cudaFreeHost(data_);
}

template class Memory<MemoryKind::kDevice>;
template class Memory<MemoryKind::kPinned>;

Result<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  US_TRY(cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"));
  return Stream(stream);
}

Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  US_TRY(cuda_status(cudaEventCreate(&event), "making an event"));
  return Event(event);
}

Result<double> microseconds_between(const Event& begin, const Event& end) {
  float milliseconds = 0;
  US_TRY(cuda_status(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "timing"));
  return 1000.0 * static_cast<double>(milliseconds);
}

}  // namespace ultraspeed::cuda
