// The shards of a folder as one list of sequences, written and read.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "base/check.h"
#include "base/mapped_file.h"
#include "train/feature_shard.h"
#include "train/json_text.h"
#include "train/records.h"

namespace ultraspeed::train {

namespace {

constexpr std::string_view kUnfinished = ".part";

// Ascending.
Result<std::vector<std::string>> shard_names(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".features") names.push_back(it->path().filename().string());
  }
  if (error) {
    return make_error(ErrorCode::kNotFound, "{}: cannot list: {}", directory, error.message());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// What an interrupted capture lacks: it is written at last.
Result<std::string> read_capture(const std::string& directory) {
  const std::string path = fmt::format("{}/{}", directory, kCaptureFile);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no {}, which a capture writes at its end: it was interrupted, or the "
                      "file was not copied with the shards; remove the folder and capture again",
                      directory, kCaptureFile);
  }
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::string text(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

using ListedSums = std::map<std::string, std::string, std::less<>>;  // by shards' names

Result<ListedSums> listed_shards(const std::string& directory) {
  US_ASSIGN(const std::string text, read_capture(directory));
  ListedSums sums;
  bool has_list = false;
  JsonText json(text);
  const bool is_read = json.object([&](const std::string& key) {
    if (key != kShardsKey) return json.skip();
    has_list = true;
    return json.object([&](const std::string& name) { return json.string(&sums[name]); });
  });
  if (is_read && json.is_at_end() && has_list) return sums;
  return make_error(ErrorCode::kInvalidData,
                    "{}/{}: lists no shards under \"{}\"; it is cut off or of an older version: "
                    "remove the folder and capture again",
                    directory, kCaptureFile, kShardsKey);
}

Status check_names(const std::string& directory, const std::vector<std::string>& names,
                   const ListedSums& listed) {
  for (const std::string& name : names) {
    if (listed.contains(name)) continue;
    return make_error(ErrorCode::kInvalidData,
                      "{}: {} is none of the {} shards that {} lists; remove what is of another "
                      "capture, or the folder, and capture again",
                      directory, name, listed.size(), kCaptureFile);
  }
  for (const auto& [name, sum] : listed) {
    if (std::binary_search(names.begin(), names.end(), name)) continue;
    return make_error(ErrorCode::kNotFound,
                      "{}: {} is missing, one of the {} shards that {} lists; copy it, or remove "
                      "the folder and capture again",
                      directory, name, listed.size(), kCaptureFile);
  }
  return {};
}

}  // namespace

std::string shard_sum_text(uint64_t checksum) {
  return fmt::format("{:016x}", checksum);
}

Result<FeatureFolderWriter> FeatureFolderWriter::create(const std::string& directory,
                                                        const FeatureShape& shape,
                                                        uint64_t max_shard_bytes) {
  US_TRY(check_shape(directory, shape));
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return make_error(ErrorCode::kIo, "{}: cannot make the folder: {}", directory, error.message());
  }
  US_ASSIGN(const auto names, shard_names(directory));
  if (!names.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: there is '{}' already; give another folder",
                      directory, names.front());
  }
  return FeatureFolderWriter(directory, shape, max_shard_bytes);
}

Status FeatureFolderWriter::add(const FeatureSequence& sequence) {
  const uint64_t bytes = sequence_bytes(shape_, sequence.token_ids.size());
  const bool is_full =
      shard_ && shard_->num_sequences() > 0 && shard_->bytes() + bytes > max_shard_bytes_;
  if (is_full) US_TRY(finish());
  if (!shard_) {
    name_ = fmt::format("{:05}.features", shards_.size());
    US_ASSIGN(shard_, FeatureShardWriter::create(
                          fmt::format("{}/{}{}", directory_, name_, kUnfinished), shape_));
  }
  return shard_->add(sequence);
}

Status FeatureFolderWriter::finish() {
  if (!shard_) return {};
  US_ASSIGN(const uint64_t sum, shard_->finish());
  shard_.reset();
  const std::string path = fmt::format("{}/{}", directory_, name_);
  std::error_code error;
  std::filesystem::rename(path + std::string(kUnfinished), path, error);
  if (error) {
    return make_error(ErrorCode::kIo, "{}: cannot be named so: {}", path, error.message());
  }
  shards_.emplace_back(name_, sum);
  return {};
}

Result<FeatureFolder> FeatureFolder::open(const std::string& directory) {
  US_ASSIGN(const auto names, shard_names(directory));
  US_ASSIGN(const ListedSums listed, listed_shards(directory));
  US_TRY(check_names(directory, names, listed));
  FeatureFolder folder;
  folder.directory_ = directory;
  for (const std::string& name : names) {
    const std::string path = fmt::format("{}/{}", directory, name);
    US_ASSIGN(FeatureShard shard, FeatureShard::open(path));
    if (listed.at(name) != shard_sum_text(shard.checksum())) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: is not the shard that {} lists; copy that one, or remove the folder "
                        "and capture again",
                        path, kCaptureFile);
    }
    if (folder.shards_.empty()) {
      folder.shape_ = shard.shape();
    } else if (shard.shape() != folder.shape()) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: of another target, vocabulary or taps than {}", path, names.front());
    }
    for (uint32_t i = 0; i < shard.num_sequences(); ++i) {
      folder.places_.emplace_back(static_cast<uint32_t>(folder.shards_.size()), i);
    }
    folder.shards_.push_back(std::move(shard));
  }
  if (folder.places_.empty()) {
    return make_error(ErrorCode::kNotFound, "{}: no sequences in files *.features", directory);
  }
  US_TRY(folder.select_taps(std::vector<uint32_t>(folder.shape_.target_layer_ids)));
  return folder;
}

Status FeatureFolder::select_taps(const std::vector<uint32_t>& target_layer_ids) {
  const std::vector<uint32_t>& stored = shards_.front().shape().target_layer_ids;
  std::vector<size_t> selected;
  for (const uint32_t layer : target_layer_ids) {
    const auto tap = std::find(stored.begin(), stored.end(), layer);
    if (tap == stored.end()) {
      std::string taps;
      for (const uint32_t id : stored) taps += fmt::format(" {}", id);
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: layer {} is no tap of the features; they have{}", directory_, layer,
                        taps);
    }
    selected.push_back(static_cast<size_t>(tap - stored.begin()));
  }
  if (selected.empty()) return make_error(ErrorCode::kInvalidArgument, "{}: no taps", directory_);
  selected_ = std::move(selected);
  shape_.target_layer_ids = target_layer_ids;
  return {};
}

uint64_t FeatureFolder::num_tokens() const {
  uint64_t tokens = 0;
  for (size_t i = 0; i < num_sequences(); ++i) tokens += length(i);
  return tokens;
}

uint64_t FeatureFolder::checksum() const {
  uint64_t sum = 0;
  for (const FeatureShard& shard : shards_) {
    const uint64_t of_shard = shard.checksum();
    sum = ultraspeed::checksum(std::as_bytes(std::span(&of_shard, 1)), sum);
  }
  return sum;
}

uint32_t FeatureFolder::length(size_t sequence) const {
  US_CHECK(sequence < places_.size(), "sequence {} of {}", sequence, places_.size());
  return shards_[places_[sequence].first].length(places_[sequence].second);
}

Result<FeatureSequence> FeatureFolder::read(size_t sequence) const {
  US_CHECK(sequence < places_.size(), "sequence {} of {}", sequence, places_.size());
  const FeatureShard& shard = shards_[places_[sequence].first];
  US_ASSIGN(FeatureSequence whole, shard.read(places_[sequence].second));
  if (shape_ == shard.shape()) return whole;
  const size_t size = shape_.hidden_size;
  const size_t stored_row = size * shard.shape().num_taps();
  std::vector<uint16_t> features;  // [S, selected taps * hidden_size]
  features.reserve(whole.token_ids.size() * size * selected_.size());
  for (size_t row = 0; row < whole.token_ids.size(); ++row) {
    for (const size_t tap : selected_) {
      const uint16_t* begin = whole.features.data() + row * stored_row + tap * size;
      features.insert(features.end(), begin, begin + size);
    }
  }
  whole.features = std::move(features);
  return whole;
}

}  // namespace ultraspeed::train
