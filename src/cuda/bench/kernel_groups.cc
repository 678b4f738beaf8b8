#include <algorithm>
#include <utility>

#include "cuda/bench/kernel_group.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint64_t kL2Bytes = uint64_t{50} << 20;
constexpr uint64_t kCachesBetween = 6;

using Finder = KernelGroups (*)(const program::Program&, const KernelBenchOptions&);
constexpr Finder kFinders[] = {find_expert_w4a8};

}  // namespace

KernelGroups find_kernel_groups(const program::Program& program,
                                const KernelBenchOptions& options) {
  KernelGroups all;
  for (const Finder find : kFinders) {
    for (auto& group : find(program, options)) all.push_back(std::move(group));
  }
  return all;
}

uint32_t sets_to_rotate(uint64_t set_bytes) {
  const uint64_t wanted = (kCachesBetween * kL2Bytes + set_bytes - 1) / set_bytes;
  return static_cast<uint32_t>(std::max<uint64_t>(wanted, 2));
}

}  // namespace ultraspeed::cuda
