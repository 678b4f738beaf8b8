#include "drafter/dense_drafter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "drafter/dense_math.h"

namespace ultraspeed::test {

std::vector<double> DenseDrafter::multiply(const std::string& name, const Vector& x) const {
  return dense_multiply(drafter_.weights.at(name + ".weight"), x);
}

std::vector<double> DenseDrafter::norm(const std::string& name, const Vector& x) const {
  return dense_norm(drafter_.at(name + ".weight"), x);
}

Rows DenseDrafter::heads(const Vector& x, uint32_t count) const {
  Rows rows;
  const auto size = static_cast<ptrdiff_t>(options_.head_dim);
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(count); ++i) {
    rows.emplace_back(x.begin() + i * size, x.begin() + (i + 1) * size);
  }
  return rows;
}

void DenseDrafter::rotate(Vector* head, uint32_t position) const {
  dense_rotate(head, options_.is_mimo ? options_.head_dim / 2 : options_.head_dim, position);
}

DenseDrafter::KeyValue DenseDrafter::key_value(const std::string& layer, const Vector& x,
                                               uint32_t position) const {
  KeyValue result;
  const std::string attention = layer + "self_attn.";
  for (Vector& head : heads(multiply(attention + "k_proj", x), options_.num_kv_heads)) {
    result.keys.push_back(norm(attention + "k_norm", head));
    rotate(&result.keys.back(), position);
  }
  result.values = heads(multiply(attention + "v_proj", x), options_.num_kv_heads);
  for (Vector& head : result.values) {
    for (double& value : head) value *= options_.is_mimo ? 0.612 : 1.0;
  }
  return result;
}

bool DenseDrafter::is_visible(uint32_t layer, uint32_t query, uint32_t key, uint32_t start) const {
  const int64_t w = options_.sliding_window;
  const int64_t q = query;
  const int64_t k = key;
  if (options_.is_mimo) return key >= start || k + w >= start;
  const bool has_window = options_.layer_types[layer] == "sliding_attention";
  const bool is_causal = options_.is_causal.value_or(has_window);
  return (!is_causal || k <= q) && (!has_window || q - k < w) &&
         (is_causal || !has_window || k - q < w);
}

void DenseDrafter::attend(uint32_t layer, const std::vector<KeyValue>& rows, uint32_t start,
                          Rows* hidden) const {
  const std::string prefix = fmt::format("layers.{}.", layer);
  const uint32_t group = options_.num_q_heads / options_.num_kv_heads;
  for (uint32_t row = 0; row < hidden->size(); ++row) {
    const Vector x = norm(prefix + "input_layernorm", (*hidden)[row]);
    Rows queries = heads(multiply(prefix + "self_attn.q_proj", x), options_.num_q_heads);
    Vector joined;
    for (uint32_t h = 0; h < options_.num_q_heads; ++h) {
      Vector query = norm(prefix + "self_attn.q_norm", queries[h]);
      rotate(&query, start + row);
      double sum = 0;
      if (options_.is_mimo) {
        const float sink = drafter_.at(prefix + "self_attn.attention_sink_bias")[h];
        sum = std::exp(static_cast<double>(sink));
      }
      Vector output(options_.head_dim, 0.0);
      for (uint32_t k = 0; k < rows.size(); ++k) {
        if (!is_visible(layer, start + row, k, start)) continue;
        double score = 0;
        for (uint32_t d = 0; d < options_.head_dim; ++d) {
          score += query[d] * rows[k].keys[h / group][d];
        }
        const double p = std::exp(score / std::sqrt(options_.head_dim));
        sum += p;
        for (uint32_t d = 0; d < options_.head_dim; ++d) {
          output[d] += p * rows[k].values[h / group][d];
        }
      }
      for (const double value : output) joined.push_back(value / sum);
    }
    const Vector projected = multiply(prefix + "self_attn.o_proj", joined);
    for (size_t i = 0; i < projected.size(); ++i) (*hidden)[row][i] += projected[i];
  }
}

void DenseDrafter::feed_forward(const std::string& layer, Vector* hidden) const {
  const Vector x = norm(layer + "post_attention_layernorm", *hidden);
  Vector gate = multiply(layer + "mlp.gate_proj", x);
  const Vector up = multiply(layer + "mlp.up_proj", x);
  dense_swiglu(&gate, up);
  const Vector down = multiply(layer + "mlp.down_proj", gate);
  for (size_t i = 0; i < down.size(); ++i) (*hidden)[i] += down[i];
}

DenseDrafter::Block DenseDrafter::draft(const Rows& context, uint32_t token,
                                        uint32_t num_rows) const {
  const auto start = static_cast<uint32_t>(context.size());
  const uint32_t hidden_size = options_.hidden_size;
  Rows features;
  for (const Vector& taps : context) features.push_back(norm("hidden_norm", multiply("fc", taps)));
  Block block;
  for (uint32_t row = 0; row < num_rows; ++row) {
    const uint32_t id = row == 0 ? token : options_.mask_token_id;
    const auto from = row > 0 && options_.is_mimo
                          ? drafter_.mask_embedding.begin()
                          : embedding_.begin() + static_cast<ptrdiff_t>(id) * hidden_size;
    block.hidden.emplace_back(from, from + hidden_size);
  }
  for (uint32_t layer = 0; layer < options_.num_layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    std::vector<KeyValue> rows;
    for (uint32_t p = 0; p < start; ++p) rows.push_back(key_value(prefix, features[p], p));
    for (uint32_t row = 0; row < num_rows; ++row) {
      rows.push_back(
          key_value(prefix, norm(prefix + "input_layernorm", block.hidden[row]), start + row));
    }
    attend(layer, rows, start, &block.hidden);
    for (Vector& hidden : block.hidden) feed_forward(prefix, &hidden);
  }
  for (const Vector& hidden : block.hidden) {
    const Vector x = norm("norm", hidden);
    Vector logits(options_.vocab_size, 0.0);
    for (uint32_t id = 0; id < options_.vocab_size; ++id) {
      for (uint32_t i = 0; i < hidden_size; ++i) {
        logits[id] += static_cast<double>(head_[size_t{id} * hidden_size + i]) * x[i];
      }
    }
    block.logits.push_back(std::move(logits));
  }
  return block;
}

DenseDrafter::Vector DenseDrafter::table_row(const std::vector<float>& table,
                                             uint32_t token) const {
  const auto first = table.begin() + static_cast<ptrdiff_t>(size_t{token} * options_.hidden_size);
  return {first, first + static_cast<ptrdiff_t>(options_.hidden_size)};
}

double DenseDrafter::score(const Block& block, size_t row, uint32_t before, uint32_t token) const {
  double sum = block.logits[row][token];
  if (options_.selector_rank == 0) return sum;
  const Vector u = multiply("selector.predecessor_proj", table_row(embedding_, before));
  const Vector g = multiply("selector.hidden_proj", norm("norm", block.hidden[row]));
  const Vector s = multiply("selector.successor_proj", table_row(head_, token));
  for (size_t r = 0; r < s.size(); ++r) sum += s[r] * u[r] * g[r];
  return sum;
}

std::vector<int32_t> DenseDrafter::tokens(const Block& block, uint32_t token) const {
  constexpr size_t kCandidates = 16;
  std::vector<int32_t> chosen;
  uint32_t before = token;
  for (size_t row = 1; row < block.logits.size(); ++row) {
    std::vector<uint32_t> order(options_.vocab_size);
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::stable_sort(
        order, [&](uint32_t a, uint32_t b) { return block.logits[row][a] > block.logits[row][b]; });
    before =
        *std::max_element(order.begin(), order.begin() + kCandidates, [&](uint32_t a, uint32_t b) {
          return score(block, row, before, a) < score(block, row, before, b);
        });
    chosen.push_back(static_cast<int32_t>(before));
  }
  return chosen;
}

}  // namespace ultraspeed::test
