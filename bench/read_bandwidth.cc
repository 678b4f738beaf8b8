// How fast this machine reads memory: the ceiling that decode speed is compared with.
//   read_bandwidth [THREADS] [MEGABYTES]
// Every thread sums its share of a buffer, several times over; prints the best pass in GB/s.
// Defaults: one thread a processor, 1024 MB (beyond any cache).
#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int kPasses = 8;

// Eight independent sums, so that loads and not additions limit the loop.
uint64_t sum(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

}  // namespace

int main(int argc, char** argv) {
  const long threads = argc > 1 ? std::atol(argv[1]) : std::thread::hardware_concurrency();
  const long megabytes = argc > 2 ? std::atol(argv[2]) : 1024;
  if (threads < 1 || megabytes < threads) {
    fmt::print(stderr, "usage: read_bandwidth [THREADS] [MEGABYTES]\n");
    return 2;
  }
  using Clock = std::chrono::steady_clock;
  const size_t share =
      static_cast<size_t>(megabytes) * (1 << 20) / 8 / static_cast<size_t>(threads);
  std::vector<double> seconds(kPasses, 0);
  std::vector<uint64_t> results(static_cast<size_t>(threads), 0);
  Clock::time_point begin;
  std::barrier sync(threads);
  const auto run = [&](size_t index) {
    const std::vector<uint64_t> words(share, index + 1);  // first touched by its reader
    for (size_t pass = 0; pass < kPasses; ++pass) {
      sync.arrive_and_wait();
      if (index == 0) begin = Clock::now();
      sync.arrive_and_wait();
      results[index] += sum(words.data(), share);
      sync.arrive_and_wait();
      if (index == 0) seconds[pass] = std::chrono::duration<double>(Clock::now() - begin).count();
    }
  };
  std::vector<std::thread> pool;
  for (size_t i = 0; i < static_cast<size_t>(threads); ++i) pool.emplace_back(run, i);
  for (std::thread& thread : pool) thread.join();
  uint64_t checksum = 0;
  for (const uint64_t result : results) checksum += result;
  const double bytes = static_cast<double>(share * 8) * static_cast<double>(threads);
  fmt::print("{:.2f} GB/s reading {} MB with {} threads (checksum {})\n",
             bytes / *std::min_element(seconds.begin(), seconds.end()) / 1e9, megabytes, threads,
             checksum);
}
