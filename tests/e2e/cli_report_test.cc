// ultraspeed bench kernels and bench step without a GPU, and ultraspeed report: packing, checking,
// and each exit code.
#include <gtest/gtest.h>

#include <filesystem>

#include "e2e/cli.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;

const std::string kPro = US_SOURCE_DIR "/configs/mimo-v2.5-pro";

// One line on standard error, nothing on standard output.
void expect_error(const Finished& finished, int exit_code, const std::string& message) {
  EXPECT_EQ(finished.exit_code, exit_code);
  EXPECT_EQ(finished.output, "");
  EXPECT_EQ(finished.errors, "ultraspeed: " + message + "\n");
}

class Report : public testing::Test {
 protected:
  void SetUp() override {
    fs::copy_file(US_SOURCE_DIR "/tests/data/bench_kernels_h100.json", folder() + "/h100.json");
  }

  std::string folder() const { return directory_.path(); }
  std::string archive() const { return directory_.path() + "/r.tar"; }
  Finished pack() { return run_cli({"report", folder(), "--out", archive()}); }
  Finished check() { return run_cli({"report", "check", archive()}); }

  const TemporaryDirectory directory_;
};

TEST_F(Report, OfAnH100IsPackedAndChecked) {
  write_text(folder(), "other.json", "{\"a\": 1}");
  const Finished packed = pack();
  EXPECT_EQ(packed.exit_code, 0);
  EXPECT_TRUE(packed.output.starts_with(archive() + ": 1 runs, ")) << packed.output;
  EXPECT_EQ(packed.errors, "ultraspeed: " + folder() +
                               "/other.json: no bench run (JSON with a \"schema\"); left out\n");
  const Finished checked = check();
  EXPECT_EQ(checked.exit_code, 0) << checked.errors;
  EXPECT_NE(checked.output.find(": 1 runs, all "), std::string::npos) << checked.output;
  const std::string tar = read_text(archive());
  for (const char* piece :
       {"NVIDIA H100 80GB HBM3", "this run counts: the drain of 8 GB reads",
        "| expert gate/up | 60 live of 512 x 6144 |", "bench kernels --config", "\"commit\": \""}) {
    EXPECT_NE(tar.find(piece), std::string::npos) << piece;
  }
}

TEST_F(Report, WithATamperedFigureIsFoundOut) {
  ASSERT_EQ(pack().exit_code, 0);
  std::string tar = read_text(archive());
  // The same number of digits, so that the archive stays whole.
  const size_t at = tar.find("\"of_drain\": 0.8");
  ASSERT_NE(at, std::string::npos);
  tar.replace(at, 15, "\"of_drain\": 0.9");
  write_text(folder(), "r.tar", tar);
  const Finished checked = check();
  EXPECT_EQ(checked.exit_code, 3);
  EXPECT_EQ(checked.output, "");
  EXPECT_TRUE(checked.errors.starts_with("ultraspeed: runs/h100.json: kernels[0].of_drain is 0.9"))
      << checked.errors;
  EXPECT_NE(checked.errors.find("; from the raw numbers it is 0.8"), std::string::npos);
  // Nor is such a run packed.
  std::string json = read_text(folder() + "/h100.json");
  json.replace(json.find("\"counts\": true"), 14, "\"counts\": 1   ");
  write_text(folder(), "h100.json", json);
  expect_error(pack(), 3,
               folder() + "/h100.json: ceiling.counts is 1; from the raw numbers it is true");
}

TEST_F(Report, ThatIsDamagedIsRefused) {
  ASSERT_EQ(pack().exit_code, 0);
  fs::resize_file(archive(), fs::file_size(archive()) - 512);
  Finished checked = check();
  EXPECT_EQ(checked.exit_code, 1);
  EXPECT_NE(checked.errors.find("the archive ends early: two empty blocks must end it"),
            std::string::npos)
      << checked.errors;
  write_text(folder(), "r.tar", "{}");
  expect_error(check(), 1,
               archive() + ": byte 0: the archive ends early: two empty blocks must end it");
  fs::remove(archive());
  expect_error(check(), 1, archive() + ": cannot open: No such file or directory");
}

TEST_F(Report, NeedsRuns) {
  const TemporaryDirectory empty;
  expect_error(run_cli({"report", empty.path(), "--out", archive()}), 1,
               empty.path() +
                   ": no bench run in it; make one with 'ultraspeed bench kernels "
                   "--json FILE'");
  expect_error(run_cli({"report", "/nowhere", "--out", archive()}), 1,
               "/nowhere: cannot list the folder: No such file or directory");
  expect_error(run_cli({"report"}), 2, "DIR is required; see --help");
  expect_error(run_cli({"report", folder()}), 2, "--out is required; see --help");
  expect_error(run_cli({"report", "check"}), 2, "FILE is required; see --help");
  write_text(folder(), "new.json", "{\"schema\": \"ultraspeed-bench-kernels/2\"}");
  expect_error(pack(), 1,
               folder() +
                   "/new.json: schema 'ultraspeed-bench-kernels/2'; expected "
                   "ultraspeed-bench-kernels/1, ultraspeed-bench-step/1 or "
                   "ultraspeed-bench-decode/1");
  EXPECT_FALSE(fs::exists(archive()));
}

TEST(BenchKernels, SaysThatThereIsNoGpu) {
  const Finished finished =
      run_cli({"bench", "kernels", "--config", kPro}, "", {"CUDA_VISIBLE_DEVICES="});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.output, "");
  const bool has_gpu_code = finished.errors.starts_with("ultraspeed: GPU 0 is needed, 0 found");
  EXPECT_TRUE(has_gpu_code ||
              finished.errors ==
                  "ultraspeed: this program has no GPU code, as it was built without CUDA; install "
                  "CUDA 13 and build again\n")
      << finished.errors;
}

TEST(BenchKernels, ChecksFlagsFirst) {
  const auto run = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bench", "kernels", "--config", kPro});
    return run_cli(flags);
  };
  expect_error(run({"--rank", "8"}), 1, "--rank 8: there are ranks 0 to 7; see --ranks");
  expect_error(run({"--rows", "9"}), 1, "--rows 9: more than --width 8");
  expect_error(run({"--live-experts", "65"}), 1,
               "--live-experts 65: 8 columns of " + kPro + "/config.json have at most 64");
  expect_error(run({"--width", "9"}), 2, "--width: 9 not in {8,16,32,64}; see --help");
  expect_error(run({"--kernels", "dense,more"}), 2,
               "--kernels: more not in {experts,dense,attention,prefill}; see --help");
  expect_error(run({"--positions", "131072,511"}), 2,
               "--positions: Value 511 not in range 512 to 524288; see --help");
  expect_error(run_cli({"bench", "kernels"}), 2, "--config is required; see --help");
  expect_error(run_cli({"bench", "kernels", "--config", "/nowhere"}), 1,
               "/nowhere: cannot open: No such file or directory");
}

TEST(BenchStep, SaysThatThereIsNoGpu) {
  const Finished finished =
      run_cli({"bench", "step", "--config", kPro}, "", {"CUDA_VISIBLE_DEVICES="});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.output, "");
  const bool has_gpu_code = finished.errors.starts_with("ultraspeed: GPU 0 is needed, 0 found");
  EXPECT_TRUE(has_gpu_code || finished.errors.starts_with("ultraspeed: this program has no GPU "
                                                          "code, as it was built without CUDA"))
      << finished.errors;
}

// The shapes are planned before the GPU is missed.
TEST(BenchStep, TakesFamiliesByTheirShapes) {
  const auto run = [](const std::string& name, std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {"bench", "step", "--config", US_SOURCE_DIR "/configs/" + name, "--ranks"});
    return run_cli(flags, "", {"CUDA_VISIBLE_DEVICES="}).errors;
  };
  for (const char* name : {"llama-3.2-1b", "gpt-oss-20b"}) {
    for (const char* ranks : {"1", "2", "8"}) {
      EXPECT_NE(run(name, {ranks}).find("GPU"), std::string::npos) << name;
    }
  }
  EXPECT_NE(run("llama-3.2-1b", {"1", "--live-experts", "4"})
                .find("--live-experts 4: " US_SOURCE_DIR
                      "/configs/llama-3.2-1b/config.json has no experts"),
            std::string::npos);
}

TEST(BenchStep, ChecksFlagsFirst) {
  const auto run = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"bench", "step", "--config", kPro});
    return run_cli(flags);
  };
  expect_error(run({"--rank", "8"}), 1, "--rank 8: there are ranks 0 to 7; see --ranks");
  expect_error(run({"--rows", "9"}), 1, "--rows 9: more than --width 8");
  expect_error(run({"--positions", "131065"}), 1,
               "--positions 131065: with 8 rows at most 131064 are possible, as " + kPro +
                   " is planned for 131072 positions");
  expect_error(run({"--activations", "int8"}), 2,
               "--activations: int8 not in {f32,w4a16,w4a8}; see --help");
  expect_error(run({"--kv-cache", "f16"}), 2, "--kv-cache: f16 not in {f32,bf16,fp8}; see --help");
  expect_error(run_cli({"bench", "step"}), 2, "--config is required; see --help");
}

}  // namespace
}  // namespace ultraspeed::test
