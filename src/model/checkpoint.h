// A checkpoint folder: model.safetensors, or several shards listed in model.safetensors.index.json.
// Opening reads all headers and no weights; the files stay memory-mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/safetensors.h"

namespace ultraspeed::model {

// model.safetensors.index.json.
struct CheckpointIndex {
  StringMap<uint32_t> shard_of;     // tensor name -> index into shards
  std::vector<std::string> shards;  // plain file names, sorted
  std::string save_format;          // metadata.save_format, "" if absent
  std::optional<uint32_t> tp_size;  // metadata.tp_size: chunks of a fused qkv

  static Result<CheckpointIndex> parse(std::string_view file, std::string_view json);
};

// A tensor of an open checkpoint; valid while the Checkpoint lives.
struct TensorRef {
  std::string_view name;
  const SafetensorsFile* file = nullptr;
  const TensorInfo* info = nullptr;
};

// What the tensors of a checkpoint belong to, by their names.
struct CheckpointContents {
  struct Part {
    uint64_t num_tensors = 0;
    uint64_t bytes = 0;
  };
  Part backbone;
  Part mtp;      // model.mtp.*: multi-token-prediction blocks
  Part drafter;  // a DFlash drafter's names
  Part other;    // vision, audio, unknown
  uint32_t num_mtp_layers = 0;
};

class Checkpoint {
 public:
  // Errors: kNotFound for a missing folder or shard, kInvalidData for malformed files.
  static Result<Checkpoint> open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::string& save_format() const { return save_format_; }
  std::optional<uint32_t> tp_size() const { return tp_size_; }
  uint64_t num_tensors() const { return tensors_.size(); }

  std::optional<TensorRef> find(std::string_view name) const;

  // The whole tensor. REQUIRES: out.size() == info->bytes.
  Status read(std::string_view name, std::span<std::byte> out) const;

  CheckpointContents contents() const;

 private:
  Checkpoint() = default;
  Status collect_tensors();

  std::string directory_;
  std::vector<SafetensorsFile> files_;
  StringMap<uint32_t> tensors_;  // name -> index into files_
  std::string save_format_;
  std::optional<uint32_t> tp_size_;
};

}  // namespace ultraspeed::model
