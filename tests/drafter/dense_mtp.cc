#include "drafter/dense_mtp.h"

#include <fmt/format.h>

#include <cmath>

namespace ultraspeed::test {

DenseMtp::Vector DenseMtp::multiply(const DenseWeight& weight, const Vector& x) const {
  Vector y(weight.rows, 0.0);
  for (uint32_t r = 0; r < weight.rows; ++r) {
    for (uint32_t c = 0; c < weight.columns; ++c) {
      y[r] += static_cast<double>(weight.values[size_t{r} * weight.columns + c]) * x[c];
    }
  }
  return y;
}

DenseMtp::Vector DenseMtp::norm(const DenseWeight& weight, const Vector& x) const {
  double sum = 0;
  for (const double value : x) sum += value * value;
  const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + 1e-5);
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = static_cast<double>(weight.values[i]) * (x[i] * scale);
  }
  return y;
}

// eh_proj([rms(embed[token], enorm); rms(hidden, hnorm)]).
DenseMtp::Vector DenseMtp::joined(const std::string& head, const Row& row) const {
  const std::vector<float>& table = checkpoint_.at(model::TensorRole::kEmbedding).values;
  const auto first = table.begin() + static_cast<ptrdiff_t>(row.token) * options_.hidden_size;
  Vector both =
      norm(at(head, "enorm.weight"), Vector(first, first + ptrdiff_t{options_.hidden_size}));
  const Vector hidden = norm(at(head, "hnorm.weight"), row.hidden);
  both.insert(both.end(), hidden.begin(), hidden.end());
  return multiply(at(head, "eh_proj.weight"), both);
}

// Pairs (i, i + r / 2) of the first r = int(0.334 * head_dim) dimensions, theta 10000.
void DenseMtp::rotate(Vector* head, uint32_t position) const {
  const auto r = static_cast<uint32_t>(options_.head_dim * 0.334);
  for (uint32_t i = 0; i < r / 2; ++i) {
    const double angle = position * std::pow(10000.0, -2.0 * i / r);
    const double low = (*head)[i];
    const double high = (*head)[i + r / 2];
    (*head)[i] = low * std::cos(angle) - high * std::sin(angle);
    (*head)[i + r / 2] = high * std::cos(angle) + low * std::sin(angle);
  }
}

// o_proj of what the last input sees of all inputs, which stand at positions first, first + 1, ...
DenseMtp::Vector DenseMtp::attend(const std::string& head, const Rows& inputs,
                                  uint32_t first) const {
  const DenseWeight& norm_weight = at(head, "input_layernorm.weight");
  const DenseWeight& sinks = at(head, "self_attn.attention_sink_bias");
  const uint32_t q_heads = options_.num_q_heads;
  const uint32_t kv_heads = options_.num_sliding_kv_heads;
  const uint32_t key_size = options_.head_dim;
  const uint32_t value_size = options_.v_head_dim;
  Rows qkv;
  for (const Vector& x : inputs) {
    qkv.push_back(multiply(at(head, "self_attn.qkv_proj.weight"), norm(norm_weight, x)));
  }
  const auto part = [&](size_t row, uint32_t begin, uint32_t size) {
    const auto from = qkv[row].begin() + ptrdiff_t{begin};
    return Vector(from, from + ptrdiff_t{size});
  };
  Vector output;
  for (uint32_t h = 0; h < q_heads; ++h) {
    const uint32_t kv = h / (q_heads / kv_heads);
    Vector query = part(inputs.size() - 1, h * key_size, key_size);
    rotate(&query, first + static_cast<uint32_t>(inputs.size()) - 1);
    double sum = std::exp(static_cast<double>(sinks.values[h]));
    Vector values(value_size, 0.0);
    for (uint32_t row = 0; row < inputs.size(); ++row) {
      Vector key = part(row, (q_heads + kv) * key_size, key_size);
      rotate(&key, first + row);
      double score = 0;
      for (uint32_t d = 0; d < key_size; ++d) score += query[d] * key[d];
      const double p = std::exp(score / std::sqrt(static_cast<double>(key_size)));
      sum += p;
      const Vector value = part(row, (q_heads + kv_heads) * key_size + kv * value_size, value_size);
      for (uint32_t d = 0; d < value_size; ++d) values[d] += p * 0.612 * value[d];
    }
    for (const double value : values) output.push_back(value / sum);
  }
  return multiply(at(head, "self_attn.o_proj.weight"), output);
}

DenseMtp::Vector DenseMtp::feed_forward(const std::string& head, const Vector& x) const {
  Vector gate = multiply(at(head, "mlp.gate_proj.weight"), x);
  const Vector up = multiply(at(head, "mlp.up_proj.weight"), x);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  return multiply(at(head, "mlp.down_proj.weight"), gate);
}

DenseMtp::Vector DenseMtp::logits(uint32_t index, const std::vector<Row>& rows) const {
  const std::string head = fmt::format("model.mtp.layers.{}.", index);
  const size_t window = options_.sliding_window;  // the position itself among them
  const size_t first = rows.size() > window ? rows.size() - window : 0;
  Rows inputs;
  for (size_t i = first; i < rows.size(); ++i) inputs.push_back(joined(head, rows[i]));
  Vector x = inputs.back();
  const Vector attended = attend(head, inputs, static_cast<uint32_t>(first));
  for (size_t i = 0; i < x.size(); ++i) x[i] += attended[i];
  const Vector fed = feed_forward(head, norm(at(head, "pre_mlp_layernorm.weight"), x));
  for (size_t i = 0; i < x.size(); ++i) x[i] += fed[i];
  return multiply(checkpoint_.at(model::TensorRole::kLmHead),
                  norm(at(head, "final_layernorm.weight"), x));
}

}  // namespace ultraspeed::test
