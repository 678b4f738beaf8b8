#include "cpu/topology.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <thread>

namespace ultraspeed::cpu {
namespace {

std::vector<uint32_t> processors(const std::string& machine, uint32_t count) {
  const auto topology = Topology::synthetic(machine);
  EXPECT_TRUE(topology);
  const auto chosen = topology->worker_processors(count);
  EXPECT_TRUE(chosen) << chosen.error().message;
  return *chosen;
}

using Processors = std::vector<uint32_t>;

TEST(Topology, WorkersGetACoreEachBeforeAnyGetsASecondThread) {
  EXPECT_EQ(processors("numa:2 core:2 pu:2", 3), (Processors{0, 2, 4}));
  EXPECT_EQ(processors("numa:2 core:2 pu:2", 6), (Processors{0, 2, 4, 6, 1, 3}));
  EXPECT_EQ(processors("core:4 pu:1", 4), (Processors{0, 1, 2, 3}));
  EXPECT_EQ(processors("pu:4", 3), (Processors{0, 1, 2})) << "a machine that tells of no cores";
  EXPECT_EQ(Topology::synthetic("numa:2 core:2 pu:2")->num_numa_nodes(), 2u);
}

TEST(Topology, MoreWorkersThanProcessorsAreRefused) {
  const auto topology = Topology::synthetic("core:2 pu:2");
  EXPECT_EQ(topology->worker_processors(5).error().message,
            "5 pinned threads, but this process may use 4 processors; ask for fewer threads, or do "
            "not pin them");
  EXPECT_FALSE(Topology::synthetic("nonsense"));
}

TEST(Topology, PinsAThread) {
  const auto topology = Topology::of_machine();
  ASSERT_TRUE(topology) << topology.error().message;
  const uint32_t processor = topology->worker_processors(1).value()[0];
  std::thread([&] {
    const Status status = topology->pin(pthread_self(), processor);
    ASSERT_TRUE(status) << status.error().message;
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    EXPECT_EQ(CPU_COUNT(&allowed), 1);
    EXPECT_TRUE(CPU_ISSET(processor, &allowed));
  }).join();
}

}  // namespace
}  // namespace ultraspeed::cpu
