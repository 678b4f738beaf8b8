// Runs one operation on hand-made buffers and weights. For the tests of ops/.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "cpu/machine.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

class OpHarness {
 public:
  OpHarness(uint32_t width, uint32_t hidden_size) {
    program_.width = width;
    program_.hidden_size = hidden_size;
    program_.num_workers = 1;
    program_.kv_page_positions = 64;
    program_.lists.resize(1);
  }

  program::BufferId buffer(std::vector<float> values) {
    program_.buffers.push_back({"", 1, values.size() * 4, offset_});
    offset_ += (values.size() * 4 + 63) / 64 * 64;
    contents_.push_back(std::move(values));
    return static_cast<program::BufferId>(contents_.size() - 1);
  }
  program::WeightId weight(uint32_t rows, uint32_t cols, const std::vector<float>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return packed_weight(tensor::WeightFormat::kF32, rows, cols, {bytes.begin(), bytes.end()});
  }
  // `count` matrices in their packed form.
  program::WeightId packed_weight(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                                  std::vector<std::byte> bytes, uint32_t count = 1) {
    program_.weights.push_back({"", format, rows, cols, count});
    weights_.push_back(std::move(bytes));
    return static_cast<program::WeightId>(weights_.size() - 1);
  }
  program::CacheId cache(program::CacheDecl decl) {
    program_.caches.push_back(decl);
    return static_cast<program::CacheId>(program_.caches.size() - 1);
  }
  program::Column& column(int32_t token_id, uint32_t position, uint32_t sequence = 0) {
    columns_.push_back({});
    columns_.back().token_id = token_id;
    columns_.back().position = position;
    columns_.back().sequence = sequence;
    return columns_.back();
  }

  program::Column& column_at(size_t index) { return columns_[index]; }
  void set_columns(std::vector<program::Column> columns) { columns_ = std::move(columns); }

  // Before load().
  void set_mode(Activations activations, KvCacheType kv_cache) {
    activations_ = activations;
    kv_cache_ = kv_cache;
  }

  // Allocates everything; afterwards machine() may be changed before run(). stages: those whose
  // caches have scales.
  void load(const std::vector<program::Operands>& stages = {}) {
    program_.arena_bytes = offset_;
    for (const program::Operands& operands : stages) {
      program_.stages.push_back({"stage", 0, operands});
    }
    program::CacheLimits limits;
    limits.num_sequences = 4;
    limits.num_kv_pages = 64;
    const auto read = [this](uint32_t, program::WeightId id, uint32_t index,
                             std::span<std::byte> out) {
      std::memcpy(out.data(), weights_[id].data() + index * out.size(), out.size());
      return Status{};
    };
    ASSERT_TRUE(machine_.load({program_}, limits, read, activations_, kv_cache_));
    for (program::BufferId id = 0; id < contents_.size(); ++id) {
      std::copy(contents_[id].begin(), contents_[id].end(), values(id));
    }
    for (uint32_t page = 0; page < limits.num_kv_pages; ++page) pages_.push_back(page);
  }

  Machine& machine() { return machine_; }
  float* values(program::BufferId id) {
    return machine_.rank(0).arena.data() + program_.buffers[id].offset_bytes / 4;
  }
  uint32_t* words(program::BufferId id) { return reinterpret_cast<uint32_t*>(values(id)); }

  // Runs all units of one task with this tile.
  Status run(const program::Operands& operands, uint32_t row_begin, uint32_t row_count,
             uint32_t part = 0) {
    scratch_.begin_step();
    return run_next(operands, row_begin, row_count, part);
  }

  // In the step of the run before.
  Status run_next(const program::Operands& operands, uint32_t row_begin, uint32_t row_count,
                  uint32_t part = 0) {
    program_.stages = {{"stage", 0, operands}};
    program::Task task;
    task.row_begin = row_begin;
    task.row_count = row_count;
    task.part = part;
    const std::vector<std::span<const uint32_t>> tables(4, pages_);
    const program::StepInput input{columns_, tables};
    output.columns.assign(columns_.size(), {});
    const OpContext context(&machine_, program_, 0, task, input, &output, &scratch_);
    for (uint32_t unit = 0; unit < unit_count(context); ++unit) US_TRY(run_task(context, unit));
    return {};
  }

  program::StepOutput output;

 private:
  program::Program program_;
  Machine machine_;
  Scratch scratch_;
  std::vector<program::Column> columns_;
  std::vector<uint32_t> pages_;
  std::vector<std::vector<float>> contents_;
  std::vector<std::vector<std::byte>> weights_;
  Activations activations_ = Activations::kF32;
  KvCacheType kv_cache_ = KvCacheType::kF32;
  uint64_t offset_ = 0;
};

}  // namespace ultraspeed::cpu
