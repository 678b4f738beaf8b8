#include "cuda/bench/nvml.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <array>

namespace ultraspeed::cuda {
namespace {

// From nvml.h, which not every CUDA installation has; 0 is success.
using Device = void*;
constexpr unsigned kSmClock = 1, kMemoryClock = 2;
using PlainCall = int (*)();
using VersionCall = int (*)(char* version, unsigned length);
using HandleCall = int (*)(const char* bus_id, Device* device);
using ClockCall = int (*)(Device device, unsigned type, unsigned* mhz);

template <class Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

struct Nvml::Library {
  void* handle = nullptr;
  bool is_open = false;  // nvmlInit succeeded
  PlainCall shutdown = nullptr;
  VersionCall driver_version = nullptr;
  ClockCall clock = nullptr, max_clock = nullptr;
  Device device = nullptr;  // nullptr: not found

  ~Library() {
    if (is_open) shutdown();
    if (handle != nullptr) dlclose(handle);
  }
};

Nvml::Nvml() : library_(std::make_unique<Library>()) {
  Library& library = *library_;
  library.handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) return;
  PlainCall init = nullptr;
  HandleCall find_device = nullptr;
  if (!find(library.handle, "nvmlInit_v2", &init) ||
      !find(library.handle, "nvmlShutdown", &library.shutdown) ||
      !find(library.handle, "nvmlSystemGetDriverVersion", &library.driver_version) ||
      !find(library.handle, "nvmlDeviceGetHandleByPciBusId_v2", &find_device) ||
      !find(library.handle, "nvmlDeviceGetClockInfo", &library.clock) ||
      !find(library.handle, "nvmlDeviceGetMaxClockInfo", &library.max_clock)) {
    return;
  }
  library.is_open = init() == 0;
  int index = 0;
  std::array<char, 32> bus_id = {};
  if (!library.is_open || cudaGetDevice(&index) != cudaSuccess ||
      cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), index) != cudaSuccess ||
      find_device(bus_id.data(), &library.device) != 0) {
    library.device = nullptr;
  }
}

Nvml::~Nvml() = default;

std::string Nvml::driver_version() const {
  std::array<char, 96> version = {};
  if (!library_->is_open ||
      library_->driver_version(version.data(), static_cast<unsigned>(version.size() - 1)) != 0) {
    return "";
  }
  return version.data();
}

std::optional<GpuClocks> Nvml::clocks() const {
  if (library_->device == nullptr) return {};
  GpuClocks clocks;
  const auto read = [this](ClockCall call, unsigned type, uint32_t* mhz) {
    return call(library_->device, type, mhz) == 0;
  };
  const bool is_read = read(library_->clock, kSmClock, &clocks.sm_mhz) &&
                       read(library_->clock, kMemoryClock, &clocks.memory_mhz) &&
                       read(library_->max_clock, kSmClock, &clocks.max_sm_mhz) &&
                       read(library_->max_clock, kMemoryClock, &clocks.max_memory_mhz);
  return is_read ? std::optional(clocks) : std::nullopt;
}

}  // namespace ultraspeed::cuda
