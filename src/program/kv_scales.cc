#include "program/kv_scales.h"

#include <cstring>
#include <set>
#include <variant>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::program {
namespace {

using tensor::WeightFormat;

// A packed matrix (tensor/weight_format.h).
class PackedMatrix {
 public:
  PackedMatrix(const WeightDecl& decl, std::span<const std::byte> packed)
      : decl_(decl),
        codes_(reinterpret_cast<const uint8_t*>(packed.data())),
        scales_(codes_ + tensor::code_bytes(decl.format, decl.rows, decl.cols)) {
    US_CHECK(packed.size() == decl.matrix_bytes(), "{} has {} bytes", decl.name, packed.size());
  }

  // sums[c] += w[row, c]^2.
  void add_squares(uint64_t row, std::span<double> sums) const {
    const uint64_t first = row * decl_.cols;
    const uint64_t scales = row * tensor::scale_columns(decl_.format, decl_.cols);
    const auto add = [&](const auto& value) {
      for (uint64_t c = 0; c < decl_.cols; ++c) sums[c] += value(c) * value(c);
    };
    switch (decl_.format) {
      case WeightFormat::kF32:
        return add([&](uint64_t c) { return double{read<float>(codes_, first + c)}; });
      case WeightFormat::kBf16:
        return add([&](uint64_t c) {
          return double{tensor::bf16_to_float(read<uint16_t>(codes_, first + c))};
        });
      case WeightFormat::kFp8Block128:
        return add([&](uint64_t c) {
          return double{tensor::kE4m3Values[codes_[first + c]]} *
                 double{read<float>(scales_, scales + c / tensor::kFp8BlockColumns)};
        });
      case WeightFormat::kMxfp4:
        return add([&](uint64_t c) {
          const uint8_t* codes = codes_ + row * ((decl_.cols + 1) / 2);
          return double{tensor::kE2m1Values[tensor::mxfp4_code(codes, static_cast<uint32_t>(c))]} *
                 double{tensor::kE8m0Values[scales_[scales + c / tensor::kMxBlockColumns]]};
        });
    }
  }

 private:
  template <class T>
  static T read(const uint8_t* values, uint64_t index) {
    T value;
    std::memcpy(&value, values + index * sizeof(T), sizeof(T));
    return value;
  }

  const WeightDecl& decl_;
  const uint8_t* codes_;
  const uint8_t* scales_;
};

// Of the k heads, which the v heads follow.
uint32_t first_row(const QkvProjOperands& op) {
  return op.num_q_heads * op.head_dim;
}

// The stage that writes such rows: to a cache, or of a draft block; nullptr if there is none.
const QkvProjOperands* writer_of(const Program& program, CacheId cache, BufferId cache_rows) {
  for (const Stage& stage : program.stages) {
    const auto* op = std::get_if<QkvProjOperands>(&stage.operands);
    if (op == nullptr || op->num_kv_heads == 0 || op->cache != cache) continue;
    if (cache != kNoId || op->cache_rows == cache_rows) return op;
  }
  return nullptr;
}

}  // namespace

KvScaleTable::Key::Key(const QkvProjOperands& op)
    : weight(op.weight),
      norm(op.norm.weight),
      bias(op.bias),
      k_norm(op.k_norm.weight),
      first_row(program::first_row(op)),
      value_scale(op.value_scale) {}

std::span<const tensor::KvScales> KvScaleTable::of(const QkvProjOperands& op) const {
  const auto found = first_.find(Key(op));
  US_CHECK(found != first_.end(), "weight {} has no scales", op.weight);
  return std::span(scales_).subspan(found->second, op.num_kv_heads);
}

KvScaleBuilder::KvScaleBuilder(std::span<const Program> programs, uint32_t rank)
    : first_(programs.data()) {
  std::set<KvScaleTable::Key> seen;
  const auto is_here = [&](const QkvProjOperands& op) {
    return op.num_kv_heads != 0 && has_share(rank, first_->weights[op.weight].rank_stride);
  };
  for (const Program& program : programs) {
    for (const Stage& stage : program.stages) {
      if (const auto* attention = std::get_if<AttentionOperands>(&stage.operands);
          attention != nullptr && attention->is_draft_block != 0) {
        const QkvProjOperands* block = writer_of(program, kNoId, attention->cache_rows);
        const QkvProjOperands* context = writer_of(program, attention->cache, kNoId);
        const bool are_here =
            block != nullptr && context != nullptr && is_here(*block) && is_here(*context);
        if (are_here) blocks_.emplace_back(*block, *context);
      }
      const auto* op = std::get_if<QkvProjOperands>(&stage.operands);
      if (op == nullptr || !is_here(*op)) continue;
      if (!seen.insert(KvScaleTable::Key(*op)).second) continue;
      ops_.push_back(*op);
      for (const WeightId vector : {op->norm.weight, op->k_norm.weight, op->bias}) {
        if (vector != kNoId) vectors_[vector] = {};
      }
    }
  }
}

void KvScaleBuilder::take(WeightId id, std::span<const std::byte> packed) {
  const WeightDecl& decl = first_->weights[id];
  if (const auto vector = vectors_.find(id); vector != vectors_.end()) {
    vector->second.resize(packed.size() / sizeof(float));
    std::memcpy(vector->second.data(), packed.data(), packed.size());
  }
  for (const QkvProjOperands& op : ops_) {
    if (op.weight != id) continue;
    const uint64_t cols = decl.cols;
    Sums& sums = sums_[{id, first_row(op)}];
    if (!sums.empty()) continue;  // another stage of the same weight
    sums.assign(2 * op.num_kv_heads * cols, 0);
    const PackedMatrix matrix(decl, packed);
    uint64_t row = first_row(op);
    for (uint32_t head = 0; head < 2 * op.num_kv_heads; ++head) {
      const uint32_t rows = head < op.num_kv_heads ? op.head_dim : op.v_head_dim;
      const auto of_head = std::span(sums).subspan(head * cols, cols);
      for (uint32_t i = 0; i < rows; ++i) matrix.add_squares(row++, of_head);
    }
  }
}

double KvScaleBuilder::mean_square(const QkvProjOperands& op, uint32_t kv_head,
                                   bool is_value) const {
  if (!is_value && op.k_norm.weight != kNoId) {
    double sum = 0;
    for (const float w : vectors_.at(op.k_norm.weight)) sum += double{w} * double{w};
    return sum / op.head_dim;
  }
  const auto sums = sums_.find({op.weight, first_row(op)});
  US_CHECK(sums != sums_.end(), "weight {} was not taken", op.weight);
  const uint64_t cols = first_->weights[op.weight].cols;
  const double* of_head = &sums->second[(kv_head + (is_value ? op.num_kv_heads : 0)) * cols];
  const float* norm = op.norm.weight == kNoId ? nullptr : vectors_.at(op.norm.weight).data();
  double sum = 0;
  for (uint64_t c = 0; c < cols; ++c) {
    const double factor = norm == nullptr ? 1 : double{norm[c]};
    sum += of_head[c] * factor * factor;
  }
  const uint32_t rows = is_value ? op.v_head_dim : op.head_dim;
  if (op.bias != kNoId) {
    const uint64_t first = is_value ? uint64_t{op.num_kv_heads} * op.head_dim : 0;
    const float* bias = vectors_.at(op.bias).data() + first_row(op) + first + kv_head * rows;
    for (uint32_t i = 0; i < rows; ++i) sum += double{bias[i]} * double{bias[i]};
  }
  return is_value ? sum / rows * double{op.value_scale} * double{op.value_scale} : sum / rows;
}

KvScaleTable KvScaleBuilder::finish() const {
  KvScaleTable table;
  for (const QkvProjOperands& op : ops_) {
    table.first_[KvScaleTable::Key(op)] = static_cast<uint32_t>(table.scales_.size());
    for (uint32_t head = 0; head < op.num_kv_heads; ++head) {
      table.scales_.push_back({tensor::kv_scale(mean_square(op, head, false)),
                               tensor::kv_scale(mean_square(op, head, true))});
    }
  }
  for (const auto& [block, context] : blocks_) table.first_[block] = table.first_.at(context);
  return table;
}

}  // namespace ultraspeed::program
