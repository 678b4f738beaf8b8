// The shards of a folder as one list of sequences, written and read.
#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "train/feature_shard.h"

namespace ultraspeed::train {

namespace {

constexpr std::string_view kUnfinished = ".part";

Result<std::vector<std::string>> shard_paths(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> paths;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".features") paths.push_back(it->path().string());
  }
  if (error) {
    return make_error(ErrorCode::kNotFound, "{}: cannot list: {}", directory, error.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

Result<FeatureFolderWriter> FeatureFolderWriter::create(const std::string& directory,
                                                        const FeatureShape& shape,
                                                        uint64_t max_shard_bytes) {
  US_TRY(check_shape(directory, shape));
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return make_error(ErrorCode::kIo, "{}: cannot make the folder: {}", directory, error.message());
  }
  US_ASSIGN(const auto paths, shard_paths(directory));
  if (!paths.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: there is '{}' already; give another folder",
                      directory, paths.front());
  }
  return FeatureFolderWriter(directory, shape, max_shard_bytes);
}

Status FeatureFolderWriter::add(const FeatureSequence& sequence) {
  const uint64_t bytes = sequence_bytes(shape_, sequence.token_ids.size());
  const bool is_full =
      shard_ && shard_->num_sequences() > 0 && shard_->bytes() + bytes > max_shard_bytes_;
  if (is_full) US_TRY(finish());
  if (!shard_) {
    path_ = fmt::format("{}/{:05}.features", directory_, num_shards_);
    US_ASSIGN(shard_, FeatureShardWriter::create(path_ + std::string(kUnfinished), shape_));
    ++num_shards_;
  }
  return shard_->add(sequence);
}

Status FeatureFolderWriter::finish() {
  if (!shard_) return {};
  US_TRY(shard_->finish());
  shard_.reset();
  std::error_code error;
  std::filesystem::rename(path_ + std::string(kUnfinished), path_, error);
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot be named so: {}", path_, error.message());
}

Result<FeatureFolder> FeatureFolder::open(const std::string& directory) {
  US_ASSIGN(const auto paths, shard_paths(directory));
  FeatureFolder folder;
  folder.directory_ = directory;
  for (const std::string& path : paths) {
    US_ASSIGN(FeatureShard shard, FeatureShard::open(path));
    if (folder.shards_.empty()) {
      folder.shape_ = shard.shape();
    } else if (shard.shape() != folder.shape()) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: of another target, vocabulary or taps than {}", path, paths.front());
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
