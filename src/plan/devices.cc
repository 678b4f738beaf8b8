#include "plan/devices.h"

#include <algorithm>
#include <cctype>

namespace ultraspeed::plan {
namespace {

// One bulk copy: 32 tiles of 16 rows x 64 columns in MXFP4 (512 bytes of codes, 32 of scales each).
constexpr uint32_t kWeightPageBytes = 32 * (512 + 32);

// All three have 227 KiB of shared memory a block (CUDA C++ Programming Guide, technical
// specifications of compute capability 9.0 and 10.0): 12 pages and 23 KB for activations.
constexpr uint32_t kRingPages = 12;
static_assert(kRingPages * kWeightPageBytes <= 227 * 1024);

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

Device make_device(std::string name, std::string full_name, uint32_t num_sms,
                   uint64_t memory_bytes) {
  Device device;
  device.name = std::move(name);
  device.limits.name = std::move(full_name);
  device.limits.num_workers = num_sms;
  device.limits.weight_page_bytes = kWeightPageBytes;
  device.limits.ring_pages = kRingPages;
  device.limits.memory_bytes = memory_bytes;
  return device;
}

std::vector<Device> make_devices() {
  // nvidia-smi reports 81559 MiB, of which the driver keeps 616 as on an H200.
  Device h100 = make_device("h100", "H100 SXM 80 GB", 132, (81559 - 616) * kMebibyte);
  h100.limits.memory_bandwidth = 3.35e12;
  h100.drain_bandwidth = 3.13e12;

  // cudaMemGetInfo on one.
  Device h200 = make_device("h200", "H200 SXM 141 GB", 132, 150'109'880'320);
  h200.limits.memory_bandwidth = 4.8e12;
  h200.drain_bandwidth = 4.6e12;

  // Sold as 180 or 192 GB; CUDA reports 178.35 GiB.
  Device b200 = make_device("b200", "B200 SXM 180 GB", 148, 182'630 * kMebibyte);
  b200.limits.memory_bandwidth = 8.0e12;
  return {h100, h200, b200};
}

}  // namespace

double Device::streaming_bandwidth() const {
  return is_measured() ? drain_bandwidth : kAssumedStreamingShare * limits.memory_bandwidth;
}

const std::vector<Device>& devices() {
  static const std::vector<Device> kDevices = make_devices();
  return kDevices;
}

Result<Device> find_device(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string known;
  for (const Device& device : devices()) {
    if (device.name == lower) return device;
    known += known.empty() ? device.name : ", " + device.name;
  }
  return make_error(ErrorCode::kInvalidArgument, "--device '{}': unknown; expected one of {}", name,
                    known);
}

}  // namespace ultraspeed::plan
