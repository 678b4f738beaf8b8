#include "model/checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "model/config_limits.h"
#include "model/json_reader.h"
#include "model/tensor_names.h"

namespace ultraspeed::model {
namespace {

constexpr uint64_t kMaxIndexBytes = 256U << 20;
constexpr size_t kMaxShards = 16384;
constexpr std::string_view kIndexName = "model.safetensors.index.json";
// A single file is model.safetensors; published drafters use the second name.
constexpr std::array<std::string_view, 2> kSingleNames = {"model.safetensors",
                                                          "dflash_draft_model.safetensors"};

// A shard is a file directly in the checkpoint's folder: nothing that could lead out of it.
bool is_plain_shard_name(std::string_view name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && name.front() != '.' &&
         name.find_first_of("/\\") == std::string_view::npos && !has_control_characters(name);
}

// tp_size stands as a number or as its text.
Result<std::optional<uint32_t>> read_tp_size(std::string_view file, std::string_view text) {
  uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value == 0 || value > kMaxHeads) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: metadata tp_size is '{}'; expected an integer in [1, {}]", file,
                      printable(text), kMaxHeads);
  }
  return value;
}

Status read_index_metadata(std::string_view file, const JsonObject& json, CheckpointIndex& index) {
  US_ASSIGN(const auto metadata, json.optional_object("metadata"));
  if (!metadata) return {};
  US_ASSIGN(const auto save_format, metadata->optional_string("save_format"));
  index.save_format = save_format.value_or("");
  if (!metadata->has("tp_size")) return {};
  if (const auto text = metadata->optional_string("tp_size"); text) {
    US_ASSIGN(index.tp_size, read_tp_size(file, **text));
    return {};
  }
  US_ASSIGN(index.tp_size, metadata->optional_uint("tp_size", 1, kMaxHeads));
  return {};
}

Status check_directory(const std::string& directory) {
  std::error_code error;
  if (std::filesystem::is_directory(directory, error)) return {};
  return make_error(ErrorCode::kNotFound,
                    "{}: no such folder; expected a checkpoint folder with config.json and "
                    "safetensors files",
                    directory);
}

// All missing shards at once, so that a partial download is repaired in one go.
Status check_shards_exist(const std::string& directory, const std::vector<std::string>& shards) {
  constexpr size_t kMaxListed = 8;
  size_t missing = 0;
  std::string list;
  std::error_code error;
  for (const std::string& shard : shards) {
    if (std::filesystem::exists(directory + "/" + shard, error)) continue;
    if (missing++ < kMaxListed) list += (list.empty() ? "" : ", ") + shard;
  }
  if (missing == 0) return {};
  return make_error(ErrorCode::kNotFound, "{}: {} of the {} shards that {} lists are missing: {}{}",
                    directory, missing, shards.size(), kIndexName, list,
                    missing > kMaxListed ? ", ..." : "");
}

// Every name that the index puts into a shard must be in that shard.
Status check_index_names(const CheckpointIndex& index, const std::vector<SafetensorsFile>& files) {
  for (const auto& [name, shard] : index.shard_of) {
    const SafetensorsFile& file = files[shard];
    if (!file.header().tensors.contains(name)) {
      return make_error(ErrorCode::kNotFound, "{}: no tensor '{}', which {} places there",
                        file.path(), printable(name), kIndexName);
    }
  }
  return {};
}

}  // namespace

Result<CheckpointIndex> CheckpointIndex::parse(std::string_view file, std::string_view text) {
  US_ASSIGN(const JsonDocument document, JsonDocument::parse(file, text));
  CheckpointIndex index;
  US_TRY(read_index_metadata(file, document.root(), index));
  // Also rejects a tensor that is listed twice.
  US_ASSIGN(const auto map, document.root().optional_object("weight_map"));
  if (!map) return document.root().missing("weight_map");
  simdjson::dom::object entries;
  US_CHECK(document.object().at_key("weight_map").get(entries) == simdjson::SUCCESS);
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  std::set<std::string_view> shards;
  for (const auto entry : entries) {
    std::string_view shard;
    if (entry.value.get(shard) != simdjson::SUCCESS || shard.empty() ||
        !is_plain_shard_name(shard)) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: tensor '{}' is mapped to {}; expected the plain name of a "
                        ".safetensors file in the same folder",
                        file, printable(entry.key), json_excerpt(entry.value));
    }
    shards.insert(shard);
    pairs.emplace_back(entry.key, shard);
  }
  if (shards.empty() || shards.size() > kMaxShards) {
    return make_error(ErrorCode::kInvalidData, "{}: weight_map names {} shards; expected 1 to {}",
                      file, shards.size(), kMaxShards);
  }
  index.shards.assign(shards.begin(), shards.end());
  for (const auto& [name, shard] : pairs) {
    const auto place = std::lower_bound(index.shards.begin(), index.shards.end(), shard);
    index.shard_of.emplace(name, static_cast<uint32_t>(place - index.shards.begin()));
  }
  return index;
}

Result<Checkpoint> Checkpoint::open(const std::string& directory) {
  US_TRY(check_directory(directory));
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  std::error_code error;
  CheckpointIndex index;
  for (const std::string_view name : kSingleNames) {
    if (!index.shards.empty()) break;
    const std::string path = fmt::format("{}/{}", directory, name);
    if (std::filesystem::exists(path, error)) index.shards = {std::string(name)};
  }
  const bool is_single = !index.shards.empty();
  if (!is_single) {
    const std::string path = fmt::format("{}/{}", directory, kIndexName);
    if (!std::filesystem::exists(path, error)) {
      return make_error(ErrorCode::kNotFound,
                        "{}: no weights: expected model.safetensors, or {} and its shards",
                        directory, kIndexName);
    }
    US_ASSIGN(const std::string text, read_text_file(path, kMaxIndexBytes));
    US_ASSIGN(index, CheckpointIndex::parse(path, text));
    US_TRY(check_shards_exist(directory, index.shards));
  }
  for (const std::string& shard : index.shards) {
    US_ASSIGN(SafetensorsFile file, SafetensorsFile::open(directory + "/" + shard));
    checkpoint.files_.push_back(std::move(file));
  }
  US_TRY(check_index_names(index, checkpoint.files_));
  checkpoint.save_format_ = std::move(index.save_format);
  checkpoint.tp_size_ = index.tp_size;
  US_TRY(checkpoint.collect_tensors());
  return checkpoint;
}

Status Checkpoint::collect_tensors() {
  for (uint32_t i = 0; i < files_.size(); ++i) {
    const SafetensorsHeader& header = files_[i].header();
    for (const auto& [name, info] : header.tensors) {
      const auto [place, is_new] = tensors_.emplace(name, i);
      if (!is_new) {
        return make_error(ErrorCode::kInvalidData,
                          "{}: tensor '{}' is also in {}; expected it once", files_[i].path(),
                          printable(name), files_[place->second].path());
      }
    }
    // A single file carries the index's metadata itself.
    if (const auto format = header.metadata.find("save_format");
        save_format_.empty() && format != header.metadata.end()) {
      save_format_ = format->second;
    }
    if (const auto tp_size = header.metadata.find("tp_size");
        !tp_size_.has_value() && tp_size != header.metadata.end()) {
      US_ASSIGN(tp_size_, read_tp_size(files_[i].path(), tp_size->second));
    }
  }
  return {};
}

std::optional<TensorRef> Checkpoint::find(std::string_view name) const {
  const auto entry = tensors_.find(name);
  if (entry == tensors_.end()) return std::nullopt;
  const SafetensorsFile& file = files_[entry->second];
  return TensorRef{entry->first, &file, &file.header().tensors.find(name)->second};
}

Status Checkpoint::read(std::string_view name, std::span<std::byte> out) const {
  const auto tensor = find(name);
  if (!tensor) {
    return make_error(ErrorCode::kNotFound, "{}: no tensor '{}'", directory_, printable(name));
  }
  US_CHECK(out.size() == tensor->info->bytes, "{}: {} bytes into {}", name, tensor->info->bytes,
           out.size());
  return tensor->file->read(tensor->info->offset, out);
}

CheckpointContents Checkpoint::contents() const {
  CheckpointContents contents;
  std::set<uint32_t> mtp_layers;
  for (const auto& [name, file] : tensors_) {
    const TensorNameInfo name_info = classify_tensor_name(name);
    CheckpointContents::Part* part = &contents.other;
    if (name_info.owner == TensorOwner::kBackbone) part = &contents.backbone;
    if (name_info.owner == TensorOwner::kDrafter) part = &contents.drafter;
    if (name_info.owner == TensorOwner::kMtp) {
      part = &contents.mtp;
      mtp_layers.insert(name_info.mtp_layer);
    }
    ++part->num_tensors;
    part->bytes += files_[file].header().tensors.find(name)->second.bytes;
  }
  contents.num_mtp_layers = static_cast<uint32_t>(mtp_layers.size());
  return contents;
}

}  // namespace ultraspeed::model
