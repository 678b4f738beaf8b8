// Where threads run and memory lies, by hwloc: pinned threads keep their caches, and weights that
// are spread over the NUMA nodes are read with the bandwidth of all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

struct hwloc_topology;

namespace ultraspeed::cpu {

class Topology {
 public:
  // Of this machine, as far as the process may use it, or of one that hwloc's notation describes
  // ("numa:2 core:4 pu:2"), which can be asked, not bound to. Errors: kInternal.
  static Result<Topology> of_machine();
  static Result<Topology> synthetic(const std::string& description);

  // The system's numbers of the processors (hardware threads) of `count` workers: a core for each
  // in hwloc's order, those of one NUMA node after the other, then the cores' second threads.
  // Errors: kInvalidArgument for more workers than processors.
  Result<std::vector<uint32_t>> worker_processors(uint32_t count) const;

  uint32_t num_numa_nodes() const;

  // Has a thread run on one processor only. Errors: kInternal where the system refuses.
  Status pin(std::thread::native_handle_type thread, uint32_t processor) const;

  // Spreads the pages of memory that nobody has touched yet over all NUMA nodes. A wish: where the
  // system refuses it, as some containers do, pages lie with whoever touches them first.
  void interleave(std::span<std::byte> memory) const;

 private:
  struct Destroy {
    void operator()(hwloc_topology* topology) const;
  };
  explicit Topology(hwloc_topology* topology) : topology_(topology) {}
  static Result<Topology> load(const char* description);

  std::unique_ptr<hwloc_topology, Destroy> topology_;
};

}  // namespace ultraspeed::cpu
