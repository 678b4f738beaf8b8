#include "drafter/dense_mtp.h"

#include <fmt/format.h>

#include <cmath>

#include "drafter/dense_math.h"

namespace ultraspeed::test {

// eh_proj([rms(embed[token], enorm); rms(hidden, hnorm)]).
DenseMtp::Vector DenseMtp::joined(const std::string& head, const Row& row) const {
  const std::vector<float>& table = checkpoint_.at(model::TensorRole::kEmbedding).values;
  const auto first = table.begin() + static_cast<ptrdiff_t>(row.token) * options_.hidden_size;
  Vector both = dense_norm(at(head, "enorm.weight").values,
                           Vector(first, first + ptrdiff_t{options_.hidden_size}));
  const Vector hidden = dense_norm(at(head, "hnorm.weight").values, row.hidden);
  both.insert(both.end(), hidden.begin(), hidden.end());
  return dense_multiply(at(head, "eh_proj.weight"), both);
}

// The first int(0.334 * head_dim) dimensions.
void DenseMtp::rotate(Vector* head, uint32_t position) const {
  dense_rotate(head, static_cast<uint32_t>(options_.head_dim * 0.334), position);
}

// o_proj of what the last input sees of all inputs, which stand at positions first, first + 1, ...
DenseMtp::Vector DenseMtp::attend(const std::string& head, const Rows& inputs,
                                  uint32_t first) const {
  const std::vector<float>& norm_weight = at(head, "input_layernorm.weight").values;
  const DenseWeight& sinks = at(head, "self_attn.attention_sink_bias");
  const uint32_t q_heads = options_.num_q_heads;
  const uint32_t kv_heads = options_.num_sliding_kv_heads;
  const uint32_t key_size = options_.head_dim;
  const uint32_t value_size = options_.v_head_dim;
  Rows qkv;
  for (const Vector& x : inputs) {
    qkv.push_back(
        dense_multiply(at(head, "self_attn.qkv_proj.weight"), dense_norm(norm_weight, x)));
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
  return dense_multiply(at(head, "self_attn.o_proj.weight"), output);
}

DenseMtp::Vector DenseMtp::feed_forward(const std::string& head, const Vector& x) const {
  Vector gate = dense_multiply(at(head, "mlp.gate_proj.weight"), x);
  const Vector up = dense_multiply(at(head, "mlp.up_proj.weight"), x);
  dense_swiglu(&gate, up);
  return dense_multiply(at(head, "mlp.down_proj.weight"), gate);
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
  const Vector fed = feed_forward(head, dense_norm(at(head, "pre_mlp_layernorm.weight").values, x));
  for (size_t i = 0; i < x.size(); ++i) x[i] += fed[i];
  return dense_multiply(checkpoint_.at(model::TensorRole::kLmHead),
                        dense_norm(at(head, "final_layernorm.weight").values, x));
}

}  // namespace ultraspeed::test
