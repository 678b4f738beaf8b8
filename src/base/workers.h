// Threads that take numbered jobs in turn.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace ultraspeed {

// Threads that read and rearrange weights: one a processor, and a few at least, for some wait for
// the disk.
inline uint32_t loading_threads() {
  constexpr uint32_t kFewest = 4, kMost = 64;
  return std::clamp(std::thread::hardware_concurrency(), kFewest, kMost);
}

// Runs job(worker, i) for i in [0, count) on up to num_threads threads, `worker` being the thread's
// number. After an error no further job begins; the error is that of the lowest job, whatever the
// threads: those below it had begun before.
inline Status run_jobs(uint32_t num_threads, size_t count,
                       const std::function<Status(uint32_t worker, size_t job)>& job) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  size_t failed = count;  // guarded by mutex, as the next
  Status status;
  const auto work = [&](uint32_t worker) {
    for (size_t i = next++; i < count; i = next++) {
      Status result = job(worker, i);
      if (result) continue;
      next = count;
      const std::lock_guard lock(mutex);
      if (i >= failed) continue;
      failed = i;
      status = std::move(result);
    }
  };
  std::vector<std::thread> threads;
  const auto num_workers = static_cast<uint32_t>(std::min<size_t>(num_threads, count));
  for (uint32_t worker = 1; worker < num_workers; ++worker) threads.emplace_back(work, worker);
  work(0);
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace ultraspeed
