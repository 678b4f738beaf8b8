#include "cpu/topology.h"

#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace ultraspeed::cpu {
namespace {

struct FreeBitmap {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

Bitmap make_bitmap() {
  Bitmap bitmap(hwloc_bitmap_alloc());
  US_CHECK(bitmap != nullptr);
  return bitmap;
}

tl::unexpected<Error> refused(std::string_view what) {
  return make_error(ErrorCode::kInternal, "{}: {}", what, std::strerror(errno));
}

}  // namespace

void Topology::Destroy::operator()(hwloc_topology* topology) const {
  hwloc_topology_destroy(topology);
}

Result<Topology> Topology::load(const char* description) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return refused("cannot read the processor's topology");
  Topology topology(raw);
  if (description != nullptr && hwloc_topology_set_synthetic(raw, description) != 0) {
    return refused("cannot read the description of a topology");
  }
  if (hwloc_topology_load(raw) != 0) return refused("cannot read the processor's topology");
  if (description != nullptr) return topology;
  const Bitmap allowed = make_bitmap();  // taskset's choice; a container's is known already
  if (hwloc_get_cpubind(raw, allowed.get(), HWLOC_CPUBIND_PROCESS) == 0 &&
      hwloc_topology_restrict(raw, allowed.get(), 0) != 0) {
    return refused("cannot restrict the topology to the process's processors");
  }
  return topology;
}

Result<Topology> Topology::of_machine() {
  return load(nullptr);
}

Result<Topology> Topology::synthetic(const std::string& description) {
  return load(description.c_str());
}

Result<std::vector<uint32_t>> Topology::worker_processors(uint32_t count) const {
  hwloc_topology_t topology = topology_.get();
  const int num_cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  const int num_processors = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
  if (count > static_cast<uint32_t>(num_processors)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} pinned threads, but this process may use {} processors; ask for fewer "
                      "threads, or do not pin them",
                      count, num_processors);
  }
  std::vector<uint32_t> processors;
  const auto add = [&](hwloc_obj_t processor) {
    if (processor == nullptr || std::ranges::count(processors, processor->os_index) > 0) return;
    processors.push_back(processor->os_index);
  };
  for (size_t thread = 0, before = 1; before != processors.size(); ++thread) {
    before = processors.size();
    for (unsigned core = 0; core < static_cast<unsigned>(num_cores); ++core) {
      const hwloc_obj_t object = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, core);
      add(hwloc_get_obj_inside_cpuset_by_type(topology, object->cpuset, HWLOC_OBJ_PU,
                                              static_cast<unsigned>(thread)));
    }
  }
  for (unsigned i = 0; i < static_cast<unsigned>(num_processors); ++i) {  // those of no core
    add(hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, i));
  }
  processors.resize(count);
  return processors;
}

uint32_t Topology::num_numa_nodes() const {
  return static_cast<uint32_t>(hwloc_get_nbobjs_by_type(topology_.get(), HWLOC_OBJ_NUMANODE));
}

Status Topology::pin(std::thread::native_handle_type thread, uint32_t processor) const {
  const Bitmap only = make_bitmap();
  hwloc_bitmap_only(only.get(), processor);
  if (hwloc_set_thread_cpubind(topology_.get(), thread, only.get(), 0) == 0) return {};
  return refused("cannot pin a thread to its processor");
}

void Topology::interleave(std::span<std::byte> memory) const {
  hwloc_set_area_membind(topology_.get(), memory.data(), memory.size(),
                         hwloc_topology_get_topology_nodeset(topology_.get()),
                         HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET);
}

}  // namespace ultraspeed::cpu
