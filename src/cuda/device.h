// Owners of what the CUDA runtime hands out. Nothing here knows a program.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace ultraspeed::cuda {

// Device memory that is left to CUDA's own needs, graphs, and what a step brings.
inline constexpr uint64_t kSpareBytes = uint64_t{256} << 20;

// kOutOfMemory for an allocation that failed, else kInternal; `what` was being done.
Status cuda_status(cudaError_t error, std::string_view what);

// Multiprocessors of the current device.
Result<uint32_t> count_multiprocessors();

// Device memory, or memory of the host that the device reaches (pinned).
enum class MemoryKind { kDevice, kPinned };

template <MemoryKind kKind>
class Memory {
 public:
  Memory() = default;
  // Contents undefined. Errors: kOutOfMemory, with the size.
  static Result<Memory> allocate(size_t size_bytes);
  ~Memory() { release(); }
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void release();

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

using DeviceMemory = Memory<MemoryKind::kDevice>;
using PinnedMemory = Memory<MemoryKind::kPinned>;

// Device memory with these values; `what` they are.
template <class T>
Result<DeviceMemory> to_device(std::span<const T> values, std::string_view what) {
  US_ASSIGN(DeviceMemory memory, DeviceMemory::allocate(values.size_bytes()));
  US_TRY(cuda_status(
      cudaMemcpy(memory.data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice), what));
  return memory;
}

// A handle of the runtime and the function that destroys it.
template <class Handle, cudaError_t (*kDestroy)(Handle)>
class Owner {
 public:
  Owner() = default;
  explicit Owner(Handle handle) : handle_(handle) {}
  ~Owner() {
    if (handle_ != nullptr) kDestroy(handle_);
  }
  Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owner& operator=(Owner&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  Handle handle_ = nullptr;
};

using Stream = Owner<cudaStream_t, cudaStreamDestroy>;
using Event = Owner<cudaEvent_t, cudaEventDestroy>;
using Graph = Owner<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owner<cudaGraphExec_t, cudaGraphExecDestroy>;

Result<Stream> make_stream();
Result<Event> make_event();  // with timing
// REQUIRES: both have been passed.
Result<double> microseconds_between(const Event& begin, const Event& end);

}  // namespace ultraspeed::cuda
