// Runs that end in the middle, and output that is damaged.
#include <sys/wait.h>
#include <unistd.h>

#include "base/philox.h"
#include "quantize/quantize_fixture.h"
#include "support/scale.h"

namespace ultraspeed::quantize {
namespace {

// Flips a bit of one byte on its way to a file.
class DamagingFolder final : public OutputFolder {
 public:
  DamagingFolder(std::string path, std::string file, uint64_t place)
      : OutputFolder(std::move(path)), file_(std::move(file)), place_(place) {}

  Status write_at(const OutputFile& file, uint64_t offset,
                  std::span<const std::byte> bytes) const override {
    if (file.path().find(file_) == std::string::npos || place_ < offset ||
        place_ >= offset + bytes.size()) {
      return OutputFolder::write_at(file, offset, bytes);
    }
    std::vector<std::byte> damaged(bytes.begin(), bytes.end());
    damaged[place_ - offset] ^= std::byte{4};
    return OutputFolder::write_at(file, offset, damaged);
  }

 private:
  std::string file_;
  uint64_t place_;
};

// Ends the process as a kill does: nothing is cleaned up.
class KillingFolder final : public OutputFolder {
 public:
  KillingFolder(std::string path, uint64_t limit_bytes)
      : OutputFolder(std::move(path)), left_(limit_bytes) {}

  Status write_at(const OutputFile& file, uint64_t offset,
                  std::span<const std::byte> bytes) const override {
    if (bytes.size() > left_) {
      (void)OutputFolder::write_at(file, offset, bytes.first(left_));
      _exit(9);
    }
    left_ -= bytes.size();
    return OutputFolder::write_at(file, offset, bytes);
  }

 private:
  mutable uint64_t left_;
};

class Resume : public testing::Test {
 protected:
  void SetUp() override {
    source_ = folder_.path() + "/source";
    target_ = folder_.path() + "/target";
    std::filesystem::create_directory(source_);
    const auto generated = test::write_checkpoint(source_, bf16_options());
    ASSERT_TRUE(generated) << generated.error().message;
    const std::string whole = folder_.path() + "/whole";
    const auto result = quantize(small_run(source_), OutputFolder(whole));
    ASSERT_TRUE(result) << result.error().message;
    expected_ = contents_of(whole);
    for (const auto& [name, contents] : expected_) num_bytes_ += contents.size();
  }

  // No name of the target is a file that is not whole, and without the index it is no checkpoint.
  void expect_nothing_half_written() const {
    for (const auto& [name, contents] : contents_of(target_)) {
      if (name.starts_with(".quantize/") || name.ends_with(".partial")) continue;
      const bool is_side_file = !name.ends_with(".safetensors") && !name.ends_with(".index.json") &&
                                name != "config.json" && name != kReportName;
      if (is_side_file) continue;
      EXPECT_EQ(contents == expected_.at(name), true) << name;
    }
    // With the index, which comes last, all is there.
    const bool has_index = std::filesystem::exists(target_ + "/model.safetensors.index.json");
    EXPECT_EQ(model::Checkpoint::open(target_).has_value(), has_index);
  }

  test::TemporaryDirectory folder_;
  std::string source_, target_;
  // In a process that ends after so many bytes.
  void run_and_kill(const QuantizeOptions& options, uint64_t limit) const {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      (void)quantize(options, KillingFolder(target_, limit));
      _exit(0);  // it was not killed: the test fails
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 9) << status;
  }

  std::map<std::string, std::string> expected_;
  uint64_t num_bytes_ = 0;
};

TEST_F(Resume, AFullDiskAtAnyPlaceLeavesWhatCanBeContinued) {
  const int num_trials = test::scaled(6);
  for (int trial = 0; trial < num_trials; ++trial) {
    std::filesystem::remove_all(target_);
    const auto limit = static_cast<uint64_t>(static_cast<double>(num_bytes_) *
                                             random_uniform(11, static_cast<uint64_t>(trial), 0));
    SCOPED_TRACE(limit);
    const auto failed = quantize(small_run(source_), LimitedFolder(target_, limit));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kIo);
    EXPECT_NE(failed.error().message.find("No space left on device"), std::string::npos);
    expect_nothing_half_written();
    const auto result = quantize(small_run(source_, 1), OutputFolder(target_));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(contents_of(target_) == expected_, true);
  }
}

TEST_F(Resume, AKilledProcessIsContinuedByAnother) {
  const int num_trials = test::scaled(4);
  uint64_t num_resumed = 0;
  for (int trial = 0; trial < num_trials; ++trial) {
    std::filesystem::remove_all(target_);
    // Twice in one run: the second kill meets what the first has left.
    for (const double share : {0.5, 0.4}) {
      const auto limit = static_cast<uint64_t>(
          share * static_cast<double>(num_bytes_) *
          (0.3 + 0.7 * random_uniform(12, static_cast<uint64_t>(trial), share > 0.45 ? 0 : 1)));
      SCOPED_TRACE(limit);
      run_and_kill(small_run(source_, 1), limit);
      expect_nothing_half_written();
    }
    const auto result = quantize(small_run(source_), OutputFolder(target_));
    ASSERT_TRUE(result) << result.error().message;
    num_resumed += result->num_resumed_files;
    EXPECT_EQ(contents_of(target_) == expected_, true);
  }
  EXPECT_GT(num_resumed, 0U);
}

TEST_F(Resume, OtherFlagsAreRefused) {
  ASSERT_FALSE(quantize(small_run(source_), LimitedFolder(target_, num_bytes_ / 2)));
  const auto before = contents_of(target_);
  const auto expect_refused = [&](const QuantizeOptions& options, const std::string& part) {
    const auto result = quantize(options, OutputFolder(target_));
    ASSERT_FALSE(result) << part;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  QuantizeOptions options = small_run(source_);
  options.scale_rule = ScaleRule::kFloor;
  expect_refused(options, "another scale_rule (\"even\", now \"floor\")");
  options = small_run(source_);
  options.shard_bytes = 400'000;
  expect_refused(options, "another shard_bytes (300000, now 400000)");
  options = small_run(source_);
  options.linears.head = LinearForm::kFp8;
  expect_refused(options, "another head");
  const auto time = std::filesystem::last_write_time(source_ + "/config.json");
  std::filesystem::last_write_time(source_ + "/config.json", time + std::chrono::seconds(1));
  expect_refused(small_run(source_), "another source_files");
  std::filesystem::last_write_time(source_ + "/config.json", time);
  EXPECT_EQ(contents_of(target_) == before, true);
  ASSERT_TRUE(quantize(small_run(source_, 3), OutputFolder(target_)));  // threads are no matter
}

// With nothing finished there is nothing to mix up.
TEST_F(Resume, OtherFlagsMayBeginAnewWhereNoFileIsFinished) {
  QuantizeOptions floor = small_run(source_);
  floor.scale_rule = ScaleRule::kFloor;
  run_and_kill(floor, 100'000);
  ASSERT_TRUE(std::filesystem::exists(target_ + "/.quantize/run.json"));
  const auto result = quantize(small_run(source_), OutputFolder(target_));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(contents_of(target_) == expected_, true);
}

TEST_F(Resume, ASecondProcessInTheFolderIsRefused) {
  QuantizeOptions options = small_run(source_);
  Status second;
  options.progress = [&](uint64_t, uint64_t) {
    if (second) second = quantize(small_run(source_), OutputFolder(target_)).map([](auto&&) {});
  };
  const auto result = quantize(options, OutputFolder(target_));
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another process is writing"), std::string::npos);
  EXPECT_EQ(contents_of(target_) == expected_, true);
}

TEST_F(Resume, AFlippedByteIsFoundBeforeTheFileGetsItsName) {
  const std::string file = "model-00002-of-";
  std::string name;
  for (const auto& [key, contents] : expected_) {
    if (key.starts_with(file)) name = key;
  }
  ASSERT_FALSE(name.empty());
  const uint64_t size = expected_.at(name).size();
  const auto header = model::SafetensorsFile::open(folder_.path() + "/whole/" + name);
  ASSERT_TRUE(header);
  const int num_trials = test::scaled(8);
  for (int trial = 0; trial < num_trials; ++trial) {
    std::filesystem::remove_all(target_);
    // The first trial takes the header, in a string that no reader looks at.
    const auto random = static_cast<uint64_t>(static_cast<double>(size) *
                                              random_uniform(13, static_cast<uint64_t>(trial), 0));
    const uint64_t place = trial == 0 ? expected_.at(name).find("pt\"") : random;
    std::string tensor;  // that the byte belongs to; "" in the header
    for (const auto& [key, info] : header->header().tensors) {
      if (place >= info.offset && place < info.offset + info.bytes) tensor = key;
    }
    SCOPED_TRACE(fmt::format("byte {}, tensor {}", place, tensor));
    const auto result = quantize(small_run(source_), DamagingFolder(target_, file, place));
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().message.find(file), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(tensor), std::string::npos) << result.error().message;
    EXPECT_FALSE(std::filesystem::exists(target_ + "/" + name));
    expect_nothing_half_written();
  }
}

TEST_F(Resume, AFinishedFileThatDecayedIsFound) {
  ASSERT_FALSE(quantize(small_run(source_), LimitedFolder(target_, num_bytes_ * 2 / 3)));
  std::string name;
  for (const auto& [key, contents] : contents_of(target_)) {
    if (key.starts_with("model-00001")) name = key;
  }
  ASSERT_FALSE(name.empty());
  {
    std::fstream file(target_ + "/" + name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x55');
  }
  const auto result = quantize(small_run(source_), OutputFolder(target_));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("read again is not what was written"), std::string::npos)
      << result.error().message;
  EXPECT_NE(result.error().message.find("remove " + target_ + "/" + name), std::string::npos);
  std::filesystem::remove(target_ + "/" + name);
  ASSERT_TRUE(quantize(small_run(source_), OutputFolder(target_)));
  EXPECT_EQ(contents_of(target_) == expected_, true);
}

}  // namespace
}  // namespace ultraspeed::quantize
