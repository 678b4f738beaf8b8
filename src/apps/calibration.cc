#include "apps/calibration.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "apps/terminal.h"
#include "base/progress.h"
#include "cpu/math.h"
#include "cpu/ops/route.h"
#include "model/weights.h"
#include "quantize/digest.h"
#include "tensor/bf16.h"

namespace ultraspeed::apps {
namespace {

using model::TensorRole;

// From residuals to what the experts of one layer read, by the rules of the layer's program.
class ExpertLayer {
 public:
  static Result<ExpertLayer> load(const LoadedModel& model, uint32_t layer) {
    const model::ModelConfig& config = model.config();
    ExpertLayer result;
    result.epsilon_ = config.rms_norm_eps;
    result.rule_.num_experts = config.num_experts;
    result.rule_.top_k = config.num_experts_per_token;
    result.rule_.scores = config.has_softmax_router ? program::RouterScores::kSoftmax
                                                    : program::RouterScores::kSigmoid;
    result.rule_.norm_topk = config.norm_topk_prob ? 1 : 0;
    result.rule_.scaling = config.routed_scaling_factor;
    const model::WeightLoader loader(model.checkpoint(), config);
    const auto load = [&](TensorRole role) {
      return loader.load_floats({.role = role, .layer = layer});
    };
    US_ASSIGN(result.norm_, load(TensorRole::kPostAttentionNorm));
    US_ASSIGN(result.router_, load(TensorRole::kRouter));
    if (config.has_router_bias) {
      US_ASSIGN(result.bias_, load(TensorRole::kRouterBias));
    }
    return result;
  }

  // Appends a token's row and route.
  void read(std::span<const float> residual, std::vector<uint16_t>* rows,
            std::vector<uint32_t>* routes) const {
    const auto size = static_cast<uint32_t>(residual.size());
    std::vector<float> normed(size), logits(rule_.num_experts), weights(rule_.num_experts);
    cpu::rms_norm(residual.data(), norm_.data(), epsilon_, size, normed.data());
    for (size_t e = 0; e < logits.size(); ++e) {
      logits[e] = cpu::dot(&router_[e * size], normed.data(), size);
    }
    std::vector<uint32_t> chosen;
    cpu::route_column(rule_, logits.data(), bias_.data(), &chosen, weights.data());
    routes->insert(routes->end(), chosen.begin(), chosen.end());
    std::transform(normed.begin(), normed.end(), std::back_inserter(*rows),
                   tensor::bf16_from_float);
  }

 private:
  float epsilon_ = 0;
  program::RouteOperands rule_;
  std::vector<float> norm_;           // [hidden_size]
  std::vector<float> router_, bias_;  // [num_experts, hidden_size], [num_experts]
};

class TextReading {
 public:
  TextReading(LoadedModel model, ModelOptions options, std::vector<int32_t> tokens)
      : model_(std::move(model)), options_(std::move(options)), tokens_(std::move(tokens)) {}

  quantize::ExpertInputsShape shape() const {
    const model::ModelConfig& config = model_.config();
    quantize::ExpertInputsShape shape = {.hidden_size = config.hidden_size,
                                         .num_experts = config.num_experts,
                                         .top_k = config.num_experts_per_token,
                                         .num_tokens = tokens_.size(),
                                         .layers = {}};
    for (uint32_t layer = 0; layer < config.num_layers(); ++layer) {
      if (config.layers[layer].is_moe) shape.layers.push_back(layer);
    }
    return shape;
  }

  uint64_t checksum() const {
    quantize::Digest digest;
    digest.add_row(0, std::as_bytes(std::span(tokens_)));
    return digest.value();
  }

  // Window after window, each from an empty cache.
  Status read(quantize::ExpertInputsWriter* writer) const {
    std::vector<ExpertLayer> layers;
    for (const uint32_t layer : shape().layers) {
      US_ASSIGN(layers.emplace_back(), ExpertLayer::load(model_, layer));
    }
    US_ASSIGN(const auto engine, model_.open_engine(options_, 1));
    ProgressOptions progress_options = loading_progress("Calibrating");
    progress_options.format_amount = [](double count) {
      return fmt::format("{:.0f} tokens", count);
    };
    Progress progress(std::move(progress_options));
    for (size_t first = 0; first < tokens_.size(); first += options_.context) {
      const size_t count = std::min<size_t>(options_.context, tokens_.size() - first);
      const auto take = [&](uint32_t begin, uint32_t num_rows, const auto& residuals) -> Status {
        US_TRY(add(layers, first + begin, num_rows, residuals, writer));
        progress.update(first + begin + num_rows, tokens_.size());
        return {};
      };
      US_TRY(engine->features(std::span(tokens_).subspan(first, count), take));
    }
    progress.finish();
    return {};
  }

 private:
  static Status add(const std::vector<ExpertLayer>& layers, uint64_t first_token, uint32_t count,
                    std::span<const std::span<const float>> residuals,
                    quantize::ExpertInputsWriter* writer) {
    for (uint32_t layer = 0; layer < layers.size(); ++layer) {
      const size_t size = residuals[layer].size() / count;
      std::vector<uint16_t> rows;
      std::vector<uint32_t> routes;
      for (size_t row = 0; row < count; ++row) {
        layers[layer].read(residuals[layer].subspan(row * size, size), &rows, &routes);
      }
      US_TRY(writer->add(layer, first_token, rows, routes));
    }
    return {};
  }

  LoadedModel model_;
  ModelOptions options_;
  std::vector<int32_t> tokens_;
};

Status check_length(const CalibrationTextOptions& options, size_t num_tokens) {
  if (num_tokens >= kMinCalibrationTokens) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--calibrate {}: has {} tokens; expected at least {}, better thousands of what "
                    "the model is meant for",
                    file_label(options.text), num_tokens, kMinCalibrationTokens);
}

}  // namespace

// With fewer rows of its own than columns an expert's H is filled up with rows that it does not
// read; docs/quantize.md, section 6, has what that was measured to do.
std::string short_text_warning(const quantize::ExpertInputsShape& shape) {
  const uint64_t wanted =
      (uint64_t{shape.num_experts} * shape.hidden_size + shape.top_k - 1) / shape.top_k;
  if (shape.num_tokens >= wanted) return "";
  return fmt::format(
      "--calibrate: {} tokens may make the model worse than none: an expert reads {} of them on "
      "average, and its matrices have {} columns; better give {} tokens or more",
      shape.num_tokens, shape.num_tokens * shape.top_k / shape.num_experts, shape.hidden_size,
      wanted);
}

Result<quantize::CalibrationOptions> prepare_calibration(const CalibrationTextOptions& options) {
  US_ASSIGN(const std::string text, read_file(options.text));
  ModelOptions model_options;
  model_options.directory = options.source;
  model_options.captures_expert_inputs = true;
  model_options.executor = {.kind = ExecutorKind::kCpu,
                            .threads = options.num_threads,
                            .activations = program::Activations::kF32,
                            .kv_cache = program::KvCacheType::kF32};
  model_options.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  auto model = LoadedModel::open(model_options);
  if (!model) {
    return make_error(model.error().code, "--calibrate: the source has to run here: {}",
                      model.error().message);
  }
  US_TRY(model->require_tokenizer());
  US_ASSIGN(std::vector<int32_t> tokens, encode_raw(*model, text));
  tokens.resize(std::min<size_t>(tokens.size(), options.max_tokens));
  tokens.shrink_to_fit();  // they stay until the text was read
  US_TRY(check_length(options, tokens.size()));
  US_ASSIGN(const uint32_t max_context, model->max_context(model_options));
  model_options.context = std::min(max_context, kCalibrationWindow);
  const auto reading = std::make_shared<const TextReading>(
      *std::move(model), std::move(model_options), std::move(tokens));
  quantize::CalibrationOptions result = {
      .text = std::filesystem::path(file_label(options.text)).filename().string(),
      .text_checksum = reading->checksum(),
      .damping = options.damping,
      .shape = reading->shape(),
      .read_text = [reading](auto* writer) { return reading->read(writer); }};
  if (!result.shape.layers.empty()) return result;
  return make_error(ErrorCode::kInvalidArgument,
                    "--calibrate: {} has no experts, and nothing else is calibrated",
                    options.source);
}

}  // namespace ultraspeed::apps
