#include "apps/target_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/checksum.h"
#include "cpu/math.h"
#include "model/tensor_names.h"
#include "model/weights.h"
#include "quantize/stored_matrix.h"
#include "tensor/bf16.h"

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kRowsAtOnce = 4096;

Result<std::vector<float>> read_table(const LoadedModel& model, model::TensorRole role,
                                      std::string_view module) {
  // Is there, and of the right size.
  const model::WeightLoader loader(model.checkpoint(), model.config());
  US_TRY(loader.shape({.role = role}));
  US_ASSIGN(const quantize::StoredMatrix matrix,
            quantize::find_matrix(model.checkpoint(), std::string(module), {}));
  std::vector<float> table(size_t{matrix.rows} * matrix.columns);
  std::vector<std::byte> buffer;
  for (uint32_t begin = 0; begin < matrix.rows; begin += kRowsAtOnce) {
    const uint32_t count = std::min(kRowsAtOnce, matrix.rows - begin);
    const auto rows =
        std::span(table).subspan(size_t{begin} * matrix.columns, size_t{count} * matrix.columns);
    US_TRY(matrix.read_rows(begin, count, rows, &buffer));
  }
  return table;
}

void append_bf16(std::span<const float> values, uint16_t* out) {
  for (const float value : values) *out++ = tensor::bf16_from_float(value);
}

}  // namespace

Result<train::FrozenTables> read_target_tables(const LoadedModel& model) {
  const model::ModelConfig& config = model.config();
  train::FrozenTables tables;
  tables.vocab_size = config.vocab_size;
  tables.hidden_size = config.hidden_size;
  US_ASSIGN(tables.embedding,
            read_table(model, model::TensorRole::kEmbedding, model::kEmbeddingModule));
  US_ASSIGN(tables.head, read_table(model, model::TensorRole::kLmHead,
                                    config.tie_word_embeddings ? model::kEmbeddingModule
                                                               : model::kLmHeadModule));
  const uint64_t sum = checksum(std::as_bytes(std::span(tables.head)),
                                checksum(std::as_bytes(std::span(tables.embedding))));
  tables.model =
      fmt::format("{} layers of {}, tables {:016x}", config.num_layers(), config.hidden_size, sum);
  return tables;
}

std::vector<uint32_t> default_taps(uint32_t num_layers) {
  constexpr uint32_t kFewLayers = 8, kTapsOfFew = 3, kTaps = 5;
  if (num_layers <= 4) return {num_layers / 2};
  const uint32_t num_taps = num_layers <= kFewLayers ? kTapsOfFew : kTaps;
  std::vector<uint32_t> taps;
  for (uint32_t i = 0; i < num_taps; ++i) {
    const double layer = 1 + i * (num_layers - 4.0) / (num_taps - 1);
    taps.push_back(static_cast<uint32_t>(std::nearbyint(layer)));  // ties to even, as published
  }
  taps.erase(std::unique(taps.begin(), taps.end()), taps.end());
  return taps;
}

Result<TextFeatures> TextFeatures::create(const LoadedModel& model, engine::Engine& engine,
                                          const train::FeatureShape& shape) {
  TextFeatures features(engine, shape.num_taps(), model.config().rms_norm_eps);
  const model::WeightLoader loader(model.checkpoint(), model.config());
  US_ASSIGN(features.final_norm_, loader.load_floats({.role = model::TensorRole::kFinalNorm}));
  US_CHECK(features.final_norm_.size() == shape.hidden_size, "a norm of {} numbers",
           features.final_norm_.size());
  return features;
}

Result<train::FeatureSequence> TextFeatures::of(std::span<const int32_t> tokens,
                                                size_t num_prompt) const {
  const size_t hidden_size = final_norm_.size();
  train::FeatureSequence sequence;
  sequence.token_ids.assign(tokens.begin(), tokens.end());
  sequence.loss_mask.assign(tokens.size(), 1);
  std::fill_n(sequence.loss_mask.begin(), std::min(num_prompt, tokens.size()), uint8_t{0});
  sequence.features.resize(tokens.size() * num_taps_ * hidden_size);
  sequence.last_hidden.resize(tokens.size() * hidden_size);
  std::vector<float> normed(hidden_size);
  const auto take = [&](uint32_t begin, uint32_t count,
                        std::span<const std::span<const float>> residuals) -> Status {
    US_CHECK(residuals.size() == num_taps_ + 1, "{} residuals", residuals.size());
    for (size_t row = 0; row < count; ++row) {
      const size_t position = begin + row;
      for (size_t tap = 0; tap < num_taps_; ++tap) {
        append_bf16(residuals[tap].subspan(row * hidden_size, hidden_size),
                    &sequence.features[(position * num_taps_ + tap) * hidden_size]);
      }
      // What the program's last Linear computes from the residual before it multiplies.
      cpu::rms_norm(&residuals.back()[row * hidden_size], final_norm_.data(), epsilon_,
                    static_cast<uint32_t>(hidden_size), normed.data());
      append_bf16(normed, &sequence.last_hidden[position * hidden_size]);
    }
    return {};
  };
  US_TRY(engine_->features(tokens, take));
  return sequence;
}

}  // namespace ultraspeed::apps
