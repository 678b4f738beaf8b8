// A shard of what a target computed for texts that it wrote: the input of a drafter's training.
// docs/training.md has the format. Everything is checked when it is read: sizes against the file,
// checksums, token ids, numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"

namespace ultraspeed::train {

inline constexpr uint32_t kMaxSequenceTokens = 1 << 18;
inline constexpr uint32_t kMaxFeatureTaps = 16;

// Of every sequence of a shard, and of a training run.
struct FeatureShape {
  uint32_t hidden_size = 0;
  uint32_t vocab_size = 0;
  uint32_t num_target_layers = 0;
  std::vector<uint32_t> target_layer_ids;  // the taps, as in DrafterConfig
  std::string model;                       // what identifies the target; under 128 bytes

  size_t num_taps() const { return target_layer_ids.size(); }
  bool operator==(const FeatureShape&) const = default;
};

// What a sequence of `length` tokens takes in a shard.
uint64_t sequence_bytes(const FeatureShape& shape, uint64_t length);

// kInvalidArgument for numbers that no shard may have.
Status check_shape(const std::string& file, const FeatureShape& shape);

// A text of S tokens. BF16 numbers as their bits.
struct FeatureSequence {
  std::vector<int32_t> token_ids;     // [S]
  std::vector<uint8_t> loss_mask;     // [S]; 1: a token of the target's answer
  std::vector<uint16_t> features;     // BF16 [S, taps * hidden_size]: the taps one behind the other
  std::vector<uint16_t> last_hidden;  // BF16 [S, hidden_size]: what the output head reads
};

class FeatureShardWriter {
 public:
  static Result<FeatureShardWriter> create(const std::string& path, const FeatureShape& shape);

  // Errors: kInvalidArgument for a sequence that is not of the shape, kIo.
  Status add(const FeatureSequence& sequence);

  uint64_t bytes() const { return offset_; }
  size_t num_sequences() const { return table_.size(); }

  // Writes what makes the file a shard, and gives its checksum. One that was not finished cannot be
  // opened.
  Result<uint64_t> finish();

 private:
  struct Entry {
    uint64_t offset = 0;
    uint32_t length = 0;
    uint64_t checksum = 0;
  };
  FeatureShardWriter(std::string path, FeatureShape shape, std::ofstream file);
  Status write(std::span<const std::byte> bytes);

  std::string path_;
  FeatureShape shape_;
  std::ofstream file_;
  uint64_t offset_ = 0;
  std::vector<Entry> table_;
};

// A finished shard of a folder by its name, with its checksum.
using ShardList = std::vector<std::pair<std::string, uint64_t>>;

// The file that whoever fills a folder writes at last. Its object "shards" lists them; the rest is
// for people.
inline constexpr std::string_view kCaptureFile = "capture.json";
inline constexpr std::string_view kShardsKey = "shards";
std::string shard_sum_text(uint64_t checksum);  // a shard's value there

// Fills a folder: 00000.features, 00001.features and so on, each about as large as is asked. A
// shard is NAME.features.part until it is finished.
class FeatureFolderWriter {
 public:
  // Makes the folder. A shard is finished before a sequence would take it past `max_shard_bytes`.
  // Errors: kInvalidArgument for a folder that has shards already.
  static Result<FeatureFolderWriter> create(const std::string& directory, const FeatureShape& shape,
                                            uint64_t max_shard_bytes);

  Status add(const FeatureSequence& sequence);
  // Finishes the last shard.
  Status finish();
  const ShardList& shards() const { return shards_; }

 private:
  FeatureFolderWriter(std::string directory, FeatureShape shape, uint64_t max_shard_bytes)
      : directory_(std::move(directory)),
        shape_(std::move(shape)),
        max_shard_bytes_(max_shard_bytes) {}

  std::string directory_;
  FeatureShape shape_;
  uint64_t max_shard_bytes_;
  ShardList shards_;
  std::string name_;  // of shard_, once it is finished
  std::optional<FeatureShardWriter> shard_;
};

// Const calls may run on several threads at once.
class FeatureShard {
 public:
  static Result<FeatureShard> open(const std::string& path);
  // The same of a file's bytes, which must outlive the shard.
  static Result<FeatureShard> parse(const std::string& file, std::span<const std::byte> bytes);

  const FeatureShape& shape() const { return shape_; }
  size_t num_sequences() const { return entries_.size(); }
  // Of everything in it, for entries have their own in the table and the table in the header.
  uint64_t checksum() const { return checksum_; }
  uint32_t length(size_t sequence) const { return entries_[sequence].length; }
  Result<FeatureSequence> read(size_t sequence) const;

 private:
  struct Entry {
    uint64_t offset = 0;
    uint32_t length = 0;
    uint64_t checksum = 0;
  };
  FeatureShard() = default;
  Status read_index();
  Status read_table(uint64_t table_offset, uint64_t num_sequences, uint64_t expected_checksum);
  Status check_values(size_t index, const FeatureSequence& sequence) const;
  Status read_bytes(uint64_t offset, std::span<std::byte> out) const;
  uint64_t size_bytes() const;

  std::string file_;
  std::optional<MappedFile> mapped_;
  std::span<const std::byte> bytes_;  // without mapped_
  FeatureShape shape_;
  uint64_t checksum_ = 0;
  std::vector<Entry> entries_;
};

// All shards of a folder, NAME.features, in the order of their names; of one shape.
class FeatureFolder {
 public:
  // Errors: kNotFound for a folder without kCaptureFile, which an interrupted capture leaves, and
  // for a shard that is listed there alone; kInvalidData for one that is not listed so.
  static Result<FeatureFolder> open(const std::string& directory);

  // Of what is read from now on: these of the shards' taps, in this order.
  // Errors: kInvalidArgument for none, and for a layer that the shards have not tapped.
  Status select_taps(const std::vector<uint32_t>& target_layer_ids);

  const FeatureShape& shape() const { return shape_; }
  size_t num_sequences() const { return places_.size(); }
  uint64_t num_tokens() const;
  uint64_t checksum() const;  // of all shards
  uint32_t length(size_t sequence) const;
  Result<FeatureSequence> read(size_t sequence) const;

 private:
  std::string directory_;
  std::vector<FeatureShard> shards_;
  std::vector<std::pair<uint32_t, uint32_t>> places_;  // [sequences]: shard, sequence in it
  FeatureShape shape_;                                 // with the selected taps
  std::vector<size_t> selected_;                       // [taps]: which of the shards' taps
};

}  // namespace ultraspeed::train
