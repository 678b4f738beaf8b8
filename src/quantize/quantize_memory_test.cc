// How much memory a run takes: processes of their own, so that neither the generator's memory nor
// what it gave back is counted.
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "quantize/quantize_fixture.h"

namespace ultraspeed::quantize {
namespace {

// The resident memory of this process at its most, pages of mapped files included (docs/quantize.md
// states what a run may take).
uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

// What `work` returns, from another process.
uint64_t in_child(const std::function<uint64_t()>& work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t value = work();
    _exit(write(ends[1], &value, sizeof(value)) == sizeof(value) ? 0 : 1);
  }
  uint64_t value = 0;
  EXPECT_EQ(read(ends[0], &value, sizeof(value)), static_cast<ssize_t>(sizeof(value)));
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  close(ends[0]);
  close(ends[1]);
  return value;
}

TEST(QuantizeMemory, StaysBelowTheLimit) {
  test::TemporaryDirectory folder;
  const std::string source = folder.path() + "/source";
  std::filesystem::create_directory(source);
  test::GeneratorOptions sizes = bf16_options();
  sizes.hidden_size = 512;
  sizes.moe_intermediate_size = 256;
  sizes.num_experts = 64;
  sizes.vocab_size = 16'384;
  const uint64_t source_bytes = in_child([&]() -> uint64_t {
    if (!test::write_checkpoint(source, sizes)) return 0;
    uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(source))
      bytes += entry.file_size();
    return bytes;
  });
  ASSERT_GT(source_bytes, 150'000'000U);
  constexpr uint64_t kLimit = 16'000'000;
  constexpr uint64_t kConstant = 8'000'000;
  for (const uint32_t num_threads : {1U, 2U}) {
    const uint64_t used = in_child([&]() -> uint64_t {
      const uint64_t before = peak_bytes();
      QuantizeOptions options = small_run(source, num_threads);
      options.memory_bytes = kLimit;
      options.shard_bytes = 40'000'000;
      const auto result = quantize(options, OutputFolder(folder.path() + "/target"));
      return result ? peak_bytes() - before : ~uint64_t{0};
    });
    std::filesystem::remove_all(folder.path() + "/target");
    RecordProperty("used_bytes_" + std::to_string(num_threads), std::to_string(used));
    fmt::print("{} threads: {} bytes of a source of {}\n", num_threads, used, source_bytes);
    EXPECT_GT(used, 1'000'000U);
    EXPECT_LT(used, kLimit + kConstant);
    EXPECT_LT(4 * used, source_bytes);
  }
}

}  // namespace
}  // namespace ultraspeed::quantize
