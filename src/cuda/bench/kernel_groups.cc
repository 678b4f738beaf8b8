#include <algorithm>
#include <iterator>
#include <utility>

#include "cuda/bench/kernel_group.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint64_t kL2Bytes = uint64_t{50} << 20;
constexpr uint64_t kCachesBetween = 6;

using Finder = KernelGroups (*)(const program::Program&, const KernelBenchOptions&);
// Of kKernelKinds.
constexpr Finder kFinders[] = {find_expert_w4a8, find_dense, find_attention, find_expert_prefill};
static_assert(std::size(kFinders) == std::size(kKernelKinds));

}  // namespace

KernelGroups find_kernel_groups(const program::Program& program,
                                const KernelBenchOptions& options) {
  KernelGroups all;
  for (size_t kind = 0; kind < std::size(kFinders); ++kind) {
    const bool is_wanted =
        options.kinds.empty() ||
        std::ranges::find(options.kinds, kKernelKinds[kind]) != options.kinds.end();
    if (!is_wanted) continue;
    for (auto& group : kFinders[kind](program, options)) all.push_back(std::move(group));
  }
  return all;
}

uint32_t sets_to_rotate(uint64_t set_bytes) {
  const uint64_t wanted = (kCachesBetween * kL2Bytes + set_bytes - 1) / set_bytes;
  return static_cast<uint32_t>(std::max<uint64_t>(wanted, 2));
}

}  // namespace ultraspeed::cuda
