// Engine::open with a folder for packed weights: an executor gets the same bytes with it and
// without, from the checkpoint the first time and never again, and never those of another
// checkpoint or of a damaged file.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "base/checksum.h"
#include "base/workers.h"
#include "engine/engine.h"
#include "model/packed_file.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

namespace fs = std::filesystem;

using Weights = std::map<std::tuple<uint32_t, program::WeightId, uint32_t>, std::vector<std::byte>>;

// Reads all weights on several threads, and runs nothing.
class CollectingExecutor final : public program::Executor {
 public:
  explicit CollectingExecutor(Weights* weights) : weights_(weights) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& /*limits*/,
              const program::WeightReader& read_weight) override {
    std::vector<Weights::key_type> keys;
    const program::Program& program = programs[0];
    for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
      for (program::WeightId id = 0; id < program.weights.size(); ++id) {
        if (!program::has_share(rank, program.weights[id].rank_stride)) continue;
        for (uint32_t i = 0; i < program.weights[id].count; ++i) keys.push_back({rank, id, i});
      }
    }
    std::mutex mutex;
    return run_jobs(4, keys.size(), [&](uint32_t, size_t job) -> Status {
      const auto& [rank, id, index] = keys[job];
      std::vector<std::byte> bytes(program.weights[id].matrix_bytes());
      US_TRY(read_weight(rank, id, index, bytes));
      const std::lock_guard lock(mutex);
      (*weights_)[keys[job]] = std::move(bytes);
      return {};
    });
  }
  Status run(uint32_t, const program::StepInput&, program::StepOutput*) override {
    return make_error(ErrorCode::kUnsupported, "it only loads");
  }
  Status copy_cache(const program::CacheCopy&) override { return {}; }

 private:
  Weights* weights_;
};

struct Loaded {
  Weights weights;
  uint64_t bytes_of_tensors = 0;  // read from the checkpoint while weights were loaded
  std::string report;             // of the cache, a sentence a line
};

class WeightCacheTest : public testing::Test {
 protected:
  void SetUp() override { write_model({}); }

  void write_model(test::GeneratorOptions options) {
    options.num_files = 2;
    options.num_mtp_layers = 1;
    options.intermediate_size = 512;
    options.moe_intermediate_size = 128;
    ASSERT_TRUE(test::write_checkpoint(model_.path(), options));
  }

  EngineOptions options(uint32_t ranks = 1) const {
    EngineOptions options;
    options.max_context = 64;
    options.max_sessions = 1;
    options.num_ranks = ranks;
    options.weight_cache.directory = folder();
    return options;
  }

  Loaded load(EngineOptions options) const {
    Loaded loaded;
    const auto config = model::ModelConfig::load(model_.path());
    const auto checkpoint = model::Checkpoint::open(model_.path());
    EXPECT_TRUE(config && checkpoint);
    const auto bytes_read = [&] {
      uint64_t bytes = 0;
      for (const auto& file : checkpoint->files()) bytes += file.mapped().bytes_read();
      return bytes;
    };
    options.weight_cache.report = [&](std::string_view sentence) {
      loaded.report += std::string(sentence) + "\n";
    };
    uint64_t before = bytes_read();
    // The last call comes before any weight is read.
    options.weight_cache.progress = [&](uint64_t, uint64_t) { before = bytes_read(); };
    program::DeviceLimits limits{
        .name = "test", .num_workers = 2, .weight_page_bytes = 17'408, .ring_pages = 12};
    const auto engine =
        Engine::open(*config, *checkpoint, std::make_unique<CollectingExecutor>(&loaded.weights),
                     limits, options, {});
    EXPECT_TRUE(engine) << engine.error().message;
    loaded.bytes_of_tensors = bytes_read() - before;
    return loaded;
  }

  // Without a cache.
  Weights plain(EngineOptions options) const {
    options.weight_cache = {};
    return load(options).weights;
  }

  std::string folder() const { return cache_.path() + "/weights"; }

  std::vector<std::string> files(std::string_view ending) const {
    std::vector<std::string> paths;
    for (const auto& entry : fs::directory_iterator(folder())) {
      if (entry.path().string().ends_with(ending)) paths.push_back(entry.path());
    }
    return paths;
  }

  static void flip(const std::string& path, uint64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int value = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(value ^ 1));
  }

  test::TemporaryDirectory model_, cache_;
};

TEST_F(WeightCacheTest, GivesTheSameBytesOnAnyNumberOfRanks) {
  for (const uint32_t ranks : {1U, 2U, 4U}) {
    for (const DrafterKind drafter : {DrafterKind::kNone, DrafterKind::kMtp}) {
      for (const auto dtype : model::kAllDenseDtypes) {
        EngineOptions how = options(ranks);
        how.drafter.kind = drafter;
        how.block_size = 2;
        how.dense_dtype = dtype;
        const Weights expected = plain(how);
        ASSERT_FALSE(expected.empty());
        const Loaded first = load(how), second = load(how);
        EXPECT_TRUE(first.weights == expected);
        EXPECT_TRUE(second.weights == expected);
        EXPECT_GT(first.bytes_of_tensors, 100'000U);
        EXPECT_LT(second.bytes_of_tensors, 500'000U);  // samples, at most
        EXPECT_NE(first.report.find(fmt::format("packed {0} of {0} ranks", ranks)),
                  std::string::npos)
            << first.report;
        EXPECT_NE(second.report.find(fmt::format("read {0} of {0} ranks", ranks)),
                  std::string::npos)
            << second.report;
      }
    }
  }
  EXPECT_EQ(files(".weights").size(), 4U * (1 + 2 + 4));
  EXPECT_TRUE(files(".packing").empty());
}

TEST_F(WeightCacheTest, ADamagedFileIsNeverUsed) {
  const EngineOptions how = options(2);
  const Weights expected = plain(how);
  load(how);
  ASSERT_EQ(files(".weights").size(), 2U);
  const std::string victim = files(".weights")[0];
  const uint64_t size = fs::file_size(victim);
  const auto blocks = model::PackedFile::open(victim)->index().blocks;
  // In the text, in the first matrix, one in the middle and the last; and cut off.
  for (const uint64_t offset :
       {uint64_t{60}, blocks[0].offset, blocks[blocks.size() / 2].offset + 11, size - 1}) {
    flip(victim, offset);
    const Loaded hit = load(how);
    EXPECT_TRUE(hit.weights == expected) << offset;
    EXPECT_NE(hit.report.find(victim), std::string::npos) << hit.report;
    EXPECT_NE(hit.report.find("checksum"), std::string::npos) << hit.report;
    const Loaded next = load(how);  // a damaged matrix is found too late to pack at once
    EXPECT_TRUE(next.weights == expected) << offset;
    const Loaded last = load(how);
    EXPECT_TRUE(last.weights == expected) << offset;
    EXPECT_NE(last.report.find("read 2 of 2 ranks"), std::string::npos) << last.report;
  }
  fs::resize_file(victim, size - 4096);
  const Loaded cut = load(how);
  EXPECT_TRUE(cut.weights == expected);
  EXPECT_NE(cut.report.find("packing it anew"), std::string::npos) << cut.report;
  EXPECT_NE(cut.report.find("packed 1 of 2 ranks"), std::string::npos) << cut.report;
  EXPECT_NE(load(how).report.find("read 2 of 2 ranks"), std::string::npos);
}

// Size and time of modification are as they were.
TEST_F(WeightCacheTest, AnEditedCheckpointIsAnotherOne) {
  const EngineOptions how = options();
  const Weights before = plain(how);
  load(how);
  const auto checkpoint = model::Checkpoint::open(model_.path());
  const auto norm = checkpoint->find("model.layers.0.input_layernorm.weight");
  const auto modified = fs::last_write_time(norm->file->path());
  flip(norm->file->path(), norm->info->offset);
  fs::last_write_time(norm->file->path(), modified);
  const Weights after = plain(how);
  ASSERT_FALSE(after == before);
  EXPECT_TRUE(load(how).weights == after);
  EXPECT_TRUE(load(how).weights == after);
  flip(norm->file->path(), norm->info->offset);  // what was packed first is of this one again
  const Loaded again = load(how);
  EXPECT_TRUE(again.weights == before);
  EXPECT_NE(again.report.find("read 1 of 1"), std::string::npos) << again.report;
}

TEST_F(WeightCacheTest, AnotherCheckpointInTheSameFolderIsFollowed) {
  const EngineOptions how = options();
  load(how);
  test::GeneratorOptions other;
  other.seed = 2;
  write_model(other);
  EXPECT_TRUE(load(how).weights == plain(how));
}

TEST_F(WeightCacheTest, AFolderThatCannotBeWrittenCostsNothingElse) {
  std::ofstream(cache_.path() + "/weights") << "a file";
  const EngineOptions how = options();
  const Loaded loaded = load(how);
  EXPECT_TRUE(loaded.weights == plain(how));
  EXPECT_NE(loaded.report.find("loading without it"), std::string::npos) << loaded.report;
}

TEST_F(WeightCacheTest, OnePackingAtATime) {
  const EngineOptions how = options();
  load(how);
  const std::string path = files(".weights")[0];
  fs::remove(path);
  const OutputFolder folder_of_cache(folder());
  const uint64_t size = 1;
  const auto other =
      model::PackedFileWriter::create(folder_of_cache, fs::path(path).filename().string(),
                                      model::PackedIndex::plan("", {&size, 1}));
  ASSERT_TRUE(other);
  const Loaded loaded = load(how);
  EXPECT_TRUE(loaded.weights == plain(how));
  EXPECT_NE(loaded.report.find("another process is writing it"), std::string::npos)
      << loaded.report;
}

// What packed files are found by must change with what the loader makes of a checkpoint: whoever
// comes here with another sum also counts up kPackingVersion in weight_cache.cc.
TEST(WeightCacheVersion, HoldsForWhatTheLoaderMakes) {
  const std::string directory = std::string(US_SOURCE_DIR) + "/models/tiny-mimo";
  const auto config = model::ModelConfig::load(directory);
  const auto checkpoint = model::Checkpoint::open(directory);
  ASSERT_TRUE(config && checkpoint);
  const model::WeightLoader stored(*checkpoint, *config);
  uint64_t sum = 0;
  for (const auto dtype : model::kAllDenseDtypes) {
    const model::DenseLoader loader(stored, *config, dtype);
    for (const model::WeightSource& source : model::all_weights(*config, 1, 2)) {
      std::vector<std::byte> packed(loader.shape(source)->bytes);
      ASSERT_TRUE(loader.load(source, packed));
      sum = checksum(packed, sum);
    }
  }
  EXPECT_EQ(sum, 1124732968111179916U) << "packing has changed";
}

}  // namespace
}  // namespace ultraspeed::engine
