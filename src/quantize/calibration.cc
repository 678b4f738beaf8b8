#include "quantize/calibration.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "model/tensor_names.h"
#include "quantize/expert_activation.h"
#include "quantize/triangular.h"

namespace ultraspeed::quantize {
namespace {

constexpr size_t kRowsAtOnce = 256;

// Places of the experts' conversions by their modules.
using Places = std::unordered_map<std::string_view, uint32_t>;

Result<uint32_t> find_place(const Places& places, const std::vector<Conversion>& conversions,
                            const std::string& module, uint32_t columns) {
  const auto place = places.find(module);
  if (place == places.end()) {
    return make_error(ErrorCode::kInvalidData, "there is no '{}' to calibrate", module);
  }
  const uint32_t stored = conversions[place->second].source.columns;
  if (columns == 0 || stored == columns) return place->second;
  return make_error(ErrorCode::kInvalidData, "'{}' has {} columns; expected {}", module, stored,
                    columns);
}

Status check_finite(const Conversion& conversion, std::span<const double> rows) {
  if (std::all_of(rows.begin(), rows.end(), [](double x) { return std::isfinite(x); })) return {};
  return make_error(ErrorCode::kInvalidData,
                    "the expert of '{}' computes NaN or infinity in the text; expected finite "
                    "numbers: it cannot be calibrated",
                    conversion.module);
}

}  // namespace

Status find_inputs(const ExpertInputsShape& shape, std::vector<Conversion>* conversions) {
  Places places;
  for (uint32_t i = 0; i < conversions->size(); ++i) {
    const Conversion& conversion = (*conversions)[i];
    if (conversion.kind == TensorKind::kExpert && conversion.form == Form::kMxfp4) {
      places.emplace(conversion.module, i);
    }
  }
  for (uint32_t layer = 0; layer < shape.layers.size(); ++layer) {
    for (uint32_t expert = 0; expert < shape.num_experts; ++expert) {
      const auto find = [&](std::string_view name, uint32_t columns) {
        return find_place(places, *conversions,
                          model::expert_name(shape.layers[layer], expert, name), columns);
      };
      US_ASSIGN(const uint32_t gate, find(model::kExpertGateModule, shape.hidden_size));
      US_ASSIGN(const uint32_t up, find(model::kExpertUpModule, shape.hidden_size));
      US_ASSIGN(const uint32_t down,
                find(model::kExpertDownModule, (*conversions)[gate].source.rows));
      (*conversions)[gate].input = {.layer = layer, .expert = expert, .gate = gate, .up = gate};
      (*conversions)[up].input = (*conversions)[gate].input;
      (*conversions)[down].input = {.layer = layer, .expert = expert, .gate = gate, .up = up};
    }
  }
  return {};
}

uint64_t Calibration::memory_bytes(const ExpertInputsShape& shape,
                                   const std::vector<Conversion>& conversions) {
  uint64_t most = 0;
  for (const Conversion& conversion : conversions) {
    if (!conversion.input) continue;
    const uint64_t columns = conversion.source.columns;
    // The squares, the feedback and that of the matrix before, rows and their share of a factor.
    uint64_t bytes = columns * columns * sizeof(double) +
                     2 * ErrorFeedback::num_values(conversion.source.columns) * sizeof(float) +
                     kRowsAtOnce * columns * (2 * sizeof(double) + sizeof(float));
    if (conversion.input->is_inner()) {
      const uint64_t hidden = conversion.source.rows;
      bytes += (2 * columns + kRowsAtOnce) * hidden * sizeof(float);
    }
    most = std::max(most, bytes);
  }
  return most + shape.num_tokens *
                    (shape.top_k * sizeof(uint32_t) + sizeof(uint64_t) + 2 * sizeof(uint64_t));
}

Result<ErrorFeedback> Calibration::feedback(const MatrixInput& input) {
  US_TRY(read_routes(input.layer));
  ExpertActivation activation;
  const Conversion& gate = (*conversions_)[input.gate];
  if (input.is_inner()) {
    US_ASSIGN(activation, ExpertActivation::read(gate.source, (*conversions_)[input.up].source));
  }
  const uint32_t columns = input.is_inner() ? gate.source.rows : inputs_.shape().hidden_size;
  const std::vector<uint64_t> tokens = choose_tokens(input.expert, columns);
  std::vector<double> squares(size_t{columns} * columns);
  std::vector<float> rows;
  for (size_t first = 0; first < tokens.size(); first += kRowsAtOnce) {
    const size_t count = std::min(kRowsAtOnce, tokens.size() - first);
    US_TRY(read_rows(input.layer, std::span(tokens).subspan(first, count), &rows));
    if (input.is_inner()) rows = activation.of(num_threads_, rows);
    const std::vector<double> wide(rows.begin(), rows.end());
    US_TRY(check_finite(gate, wide));
    add_squares(num_threads_, 1, wide, columns, columns, squares.data());
  }
  auto feedback = make_feedback(num_threads_, damping_, columns, &squares);
  if (feedback) return *std::move(feedback);
  return make_error(ErrorCode::kInvalidData,
                    "what the expert of '{}' reads in the text has too little in it for {} columns "
                    "at --damping {}; expected a larger damping, or more text",
                    gate.module, columns, damping_);
}

Status Calibration::read_routes(uint32_t layer) {
  if (layer == layer_) return {};
  US_ASSIGN(routes_, inputs_.routes(layer));
  layer_ = layer;
  return {};
}

std::vector<uint64_t> Calibration::choose_tokens(uint32_t expert, size_t num_wanted) const {
  const size_t top_k = inputs_.shape().top_k;
  std::vector<uint64_t> tokens, others;
  for (uint64_t token = 0; token < inputs_.shape().num_tokens; ++token) {
    const auto route = std::span(routes_).subspan(token * top_k, top_k);
    const bool is_routed = std::find(route.begin(), route.end(), expert) != route.end();
    (is_routed ? tokens : others).push_back(token);
  }
  const size_t num_missing = num_wanted - std::min(num_wanted, tokens.size());
  const size_t num_added = std::min(num_missing, others.size());
  for (size_t i = 0; i < num_added; ++i) tokens.push_back(others[i * others.size() / num_added]);
  std::sort(tokens.begin(), tokens.end());
  return tokens;
}

Status Calibration::read_rows(uint32_t layer, std::span<const uint64_t> tokens,
                              std::vector<float>* rows) const {
  const size_t hidden = inputs_.shape().hidden_size;
  rows->resize(tokens.size() * hidden);
  for (size_t i = 0; i < tokens.size(); ++i) {
    US_TRY(inputs_.read_row(layer, tokens[i], std::span(*rows).subspan(i * hidden, hidden)));
  }
  inputs_.forget_rows(layer, tokens.front(), tokens.back() + 1 - tokens.front());
  return {};
}

}  // namespace ultraspeed::quantize
