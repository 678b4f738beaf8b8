#include "model/drafter.h"

#include <cstring>
#include <filesystem>

#include "base/check.h"

namespace ultraspeed::model {

Result<Drafter> Drafter::open(const std::string& directory, const Change& change) {
  US_ASSIGN(DrafterConfig config, DrafterConfig::load(directory));
  US_ASSIGN(Checkpoint checkpoint, Checkpoint::open(directory));
  Drafter drafter(std::move(config), std::move(checkpoint));
  const std::string mask_path = directory + "/mask_embedding.pt";
  std::error_code error;
  if (std::filesystem::exists(mask_path, error)) US_TRY(drafter.read_mask(mask_path));
  if (!change) return drafter;
  change(&drafter.config_);
  drafter.stack_ = drafter.config_.stack();
  return drafter;
}

Status Drafter::read_mask(const std::string& path) {
  US_ASSIGN(mask_, MaskEmbedding::load(path));
  if (mask_->mask_token_id != config_.mask_token_id) {
    return make_error(ErrorCode::kInvalidData, "{}: for mask token {}, but {} says {}", path,
                      mask_->mask_token_id, config_.file, config_.mask_token_id);
  }
  if (mask_->values.size() != config_.hidden_size) {
    return make_error(ErrorCode::kInvalidData, "{}: {} elements, but {} has hidden_size {}", path,
                      mask_->values.size(), config_.file, config_.hidden_size);
  }
  config_.has_mask_embedding = true;
  return {};
}

Result<WeightShape> Drafter::shape(const WeightSource& source) const {
  if (source.role != TensorRole::kMaskEmbedding) return loader().shape(source);
  US_CHECK(mask_.has_value(), "{} has no mask embedding", config_.file);
  return expected_shape(stack_, source);
}

Status Drafter::load(const WeightSource& source, std::span<std::byte> out) const {
  if (source.role != TensorRole::kMaskEmbedding) return loader().load(source, out);
  US_ASSIGN(const WeightShape expected, shape(source));
  US_CHECK(out.size() == expected.bytes, "{} bytes into {}", expected.bytes, out.size());
  std::memcpy(out.data(), &mask_->values[size_t{source.shard} * expected.columns], out.size());
  return {};
}

}  // namespace ultraspeed::model
