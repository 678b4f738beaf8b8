// The weights of a plan on disk as executors take them, a file a rank: what would be gathered from
// a checkpoint's tensors, converted and looked at element by element is then read as it lies.
// docs/loading.md says what the files are called and when they are used.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/output_folder.h"
#include "engine/engine.h"
#include "model/fingerprint.h"
#include "model/packed_file.h"
#include "plan/plan.h"

namespace ultraspeed::engine {

class WeightCache {
 public:
  // Opens what the folder has for the plan, and begins to write what it lacks. What goes wrong is
  // reported and costs no more than the cache; without any use of it: nullptr.
  // REQUIRES: the files of the fingerprint outlive it.
  static std::unique_ptr<WeightCache> open(const WeightCacheOptions& options,
                                           model::Fingerprint fingerprint, const plan::Plan& plan);

  // Fills `out` with a matrix of a rank, if it is there and whole. Thread-safe, as the next.
  bool read(uint32_t rank, program::WeightId weight, uint32_t index, std::span<std::byte> out);
  // Writes one that was loaded because read() did not have it.
  void keep(uint32_t rank, program::WeightId weight, uint32_t index,
            std::span<const std::byte> packed);

  // After all weights: gives what was written its name, and reports what was done. Without it what
  // was written is gone.
  void finish();

 private:
  struct RankFile {
    std::string name;
    model::PackedIndex plan;
    std::vector<size_t> first_block;  // [WeightId]; of those that the rank has
    std::optional<model::PackedFile> reader;
    std::optional<model::PackedFileWriter> writer;
    std::atomic<bool> has_failed = false;
  };

  WeightCache(const WeightCacheOptions& options, model::Fingerprint fingerprint)
      : options_(options), folder_(options.directory), fingerprint_(std::move(fingerprint)) {}

  Result<std::string> contents();
  void open_rank(const std::string& text, const plan::Plan& plan, uint32_t rank);
  void begin_writing();
  // Reports a file's first failure, after which it is used no more. Whether this is the first.
  bool fail(RankFile* file, const Error& error, std::string_view consequence);
  void report(std::string_view sentence);

  const WeightCacheOptions options_;
  const OutputFolder folder_;
  model::Fingerprint fingerprint_;
  std::vector<std::unique_ptr<RankFile>> ranks_;
  std::mutex report_mutex_;
};

}  // namespace ultraspeed::engine
