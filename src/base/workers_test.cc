#include "base/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace ultraspeed {
namespace {

TEST(RunJobs, EveryJobOnceOnSeveralThreads) {
  std::vector<std::atomic<int>> runs(1000);
  const Status status = run_jobs(4, runs.size(), [&](uint32_t worker, size_t job) -> Status {
    EXPECT_LT(worker, 4U);
    ++runs[job];
    return {};
  });
  EXPECT_TRUE(status);
  for (const auto& count : runs) EXPECT_EQ(count, 1);
  EXPECT_TRUE(run_jobs(4, 0, [](uint32_t, size_t) -> Status { return {}; }));
}

// Jobs 0 and 1 both fail, one well after the other has: the error is that of job 0.
TEST(RunJobs, TheLowestJobsErrorIsTold) {
  for (const size_t later : {size_t{0}, size_t{1}}) {
    std::atomic<bool> has_failed = false;
    std::atomic<size_t> num_begun = 0;
    const Status status = run_jobs(2, 1000, [&](uint32_t, size_t job) -> Status {
      ++num_begun;
      while (num_begun < 2) std::this_thread::yield();  // both are taken before one fails
      if (job == later) {
        while (!has_failed) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      has_failed = true;
      return make_error(ErrorCode::kIo, "job {}", job);
    });
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().message, "job 0") << later;
    EXPECT_EQ(num_begun, 2U);
  }
}

}  // namespace
}  // namespace ultraspeed
