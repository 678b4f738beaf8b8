#include "cuda/differential_executor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <utility>
#include <variant>

#include "base/check.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "cuda/down_sums.h"
#include "cuda/machine.h"
#include "cuda/stage_caches.h"
#include "cuda/stage_launcher.h"
#include "cuda/step_image.h"
#include "cuda/stream_sink.h"
#include "cuda/tile_caches.h"
#include "program/access.h"
#include "program/route_table.h"
#include "program/step_check.h"

namespace ultraspeed::test {
namespace {

constexpr size_t kMaxFailures = 20;
// Of QkvProj's rows before they are rounded, relative to the largest (docs/numerics.md section 8).
constexpr float kRowError = 1e-6F;

void check(cudaError_t error) {
  US_CHECK(error == cudaSuccess, "{}", cudaGetErrorString(error));
}

// The largest magnitude of the finite values; 0 where there are none.
float largest_of(std::span<const float> values) {
  float most = 0;
  for (const float value : values)
    most = std::isfinite(value) ? std::fmax(most, std::abs(value)) : most;
  return most;
}

// A buffer's words on one rank.
struct Region {
  uint32_t rank;
  program::BufferId buffer;
  auto operator<=>(const Region&) const = default;
};

class DifferentialExecutor final : public program::Executor {
 public:
  DifferentialExecutor(DifferenceReport* report, program::Activations activations,
                       program::KvCacheType kv_cache)
      : report_(report), activations_(activations), kv_cache_(kv_cache) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    US_ASSIGN(stream_, cuda::make_stream());
    US_ASSIGN(cuda::StepImage step, cuda::StepImage::make());
    step_ = std::make_unique<cuda::StepImage>(std::move(step));
    cuda::ReadWeights weights(read_weight);
    US_TRY(gpu_.load(programs, limits, &weights, {activations_, kv_cache_, {}}));
    for (uint32_t i = 0; i < programs.size(); ++i) {
      US_ASSIGN(cuda::StageLauncher launcher,
                cuda::StageLauncher::make(gpu_, i, activations_, kv_cache_, step_->device_view()));
      launchers_.push_back(std::move(launcher));
    }
    return cpu_.load(std::move(programs), limits, read_weight, activations_, kv_cache_);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    program_ = &cpu_.programs()[index];
    US_TRY(program::check_step(*program_, cpu_.limits(), input));
    output->columns.assign(input.columns.size(), {});
    cpu_.poison_arenas();
    scratch_.begin_step();
    US_TRY(step_->upload(*program_, input, stream_.get()));
    cuda::StreamSink sink(stream_.get());
    check(launchers_[index].begin_step(sink));
    std::vector<size_t> next(program_->lists.size(), 0);
    for (uint32_t stage = 0; stage < program_->stages.size(); ++stage) {
      const std::set<Region> written = poison_outputs(stage);
      copy_to_gpu(stage);
      if (stages().attention_stores(stage)) give_rows(index, stage, input);
      US_TRY(run_on_cpu(stage, input, output, &next));
      US_TRY(run_on_gpu(index, stage));
      compare_arenas(stage, written);
      compare_caches(index, stage, input);
      compare_stored_rows(stage);
      compare_attention(stage, input);
    }
    US_TRY(step_->download(stream_.get()));
    check(cudaStreamSynchronize(stream_.get()));
    program::StepOutput gpu_output;
    US_TRY(step_->read(input, &gpu_output));
    compare_outputs(*output, gpu_output);
    return {};
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    cpu_.copy_cache(copy);
    return {};
  }

 private:
  // The buffers that a stage writes, filled with NaN on the CPU.
  std::set<Region> poison_outputs(uint32_t stage) {
    std::set<Region> written;
    std::vector<program::Access> accesses;
    for (uint32_t list = 0; list < program_->lists.size(); ++list) {
      for (const program::Task& task : program_->lists[list]) {
        if (task.stage != stage) continue;
        program::task_accesses(*program_, list / program_->num_workers, task, &accesses);
        for (const program::Access& access : accesses) {
          if (access.is_write) written.insert({access.rank, access.buffer});
        }
      }
    }
    for (const Region& region : written) {
      std::ranges::fill(words_of(cpu_.rank(region.rank).arena, region.buffer),
                        std::numeric_limits<float>::quiet_NaN());
    }
    return written;
  }

  std::span<float> words_of(std::span<float> arena, program::BufferId id) const {
    const program::BufferDecl& decl = program_->buffers[id];
    return arena.subspan(decl.offset_bytes / sizeof(float), decl.size_bytes / sizeof(float));
  }

  // Where the GPU keeps the rows of a step until they come to their tiles.
  float* rows_on_gpu(uint32_t index, uint32_t rank) const {
    return gpu_.buffer(rank, index, cuda::scratch_id(*program_, cuda::kKvRowScratch));
  }

  // Gives attention the processor's rows, and a cache that does not have them.
  void give_rows(uint32_t index, uint32_t stage, const program::StepInput& input) {
    const program::AttentionOperands& op = *stages().attention_of(stage);
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      const cpu::Cache& cache = cpu_.rank(rank).caches[op.cache];
      std::vector<float> keys(cache.keys.begin(), cache.keys.end());
      std::vector<float> values(cache.values.begin(), cache.values.end());
      const std::vector<float> rows = take_rows(*program_, op, input, keys, values);
      fill_tiles(gpu_, rank, op.cache, keys, values);
      check(cudaMemcpy(rows_on_gpu(index, rank), rows.data(), rows.size() * sizeof(float),
                       cudaMemcpyHostToDevice));
    }
  }

  // A cache of tiles has the processor's rows: those that attention was given, rounded once more,
  // and the others.
  void compare_stored_rows(uint32_t stage) {
    if (!stages().attention_stores(stage)) return;
    const program::CacheId id = stages().tiles_of(stage);
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      const cpu::Cache& expected = cpu_.rank(rank).caches[id];
      std::vector<float> keys(expected.keys.size()), values(expected.values.size());
      read_tiles(gpu_, rank, id, keys, values);
      const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
      // A row with a NaN has zeros as values there.
      const auto same_value = [](float a, float b) { return a == b || std::isnan(a); };
      if (!std::ranges::equal(expected.keys, keys, same) ||
          !std::ranges::equal(expected.values, values, same_value)) {
        fail(program_->stages[stage].name + " left other rows in the KV cache");
      }
    }
  }

  StageCaches stages() const { return StageCaches(*program_, gpu_); }

  void copy_to_gpu(uint32_t stage) {
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      const std::span<const float> arena = cpu_.rank(rank).arena;
      check(cudaMemcpy(gpu_.view().ranks[rank].arena, arena.data(), arena.size_bytes(),
                       cudaMemcpyHostToDevice));
      for (program::CacheId id = 0; id < program_->caches.size(); ++id) {
        const cpu::Cache& from = cpu_.rank(rank).caches[id];
        if (gpu_.cache_form(id) != cuda::CacheForm::kRows) {
          if (id == stages().tiles_of(stage)) fill_tiles(gpu_, rank, id, from.keys, from.values);
          continue;
        }
        const cuda::Cache to = gpu_.cache(rank, id);
        check(cudaMemcpy(to.keys, from.keys.data(), from.keys.size() * sizeof(float),
                         cudaMemcpyHostToDevice));
        check(cudaMemcpy(to.values, from.values.data(), from.values.size() * sizeof(float),
                         cudaMemcpyHostToDevice));
      }
    }
  }

  Status run_on_cpu(uint32_t stage, const program::StepInput& input, program::StepOutput* output,
                    std::vector<size_t>* next) {
    for (uint32_t list = 0; list < next->size(); ++list) {
      const std::vector<program::Task>& tasks = program_->lists[list];
      for (size_t& at = (*next)[list]; at < tasks.size() && tasks[at].stage == stage; ++at) {
        const cpu::OpContext context(&cpu_, *program_, list / program_->num_workers, tasks[at],
                                     input, output, &scratch_);
        const uint32_t units = cpu::unit_count(context);
        for (uint32_t unit = 0; unit < units; ++unit) US_TRY(cpu::run_task(context, unit));
      }
    }
    return {};
  }

  Status run_on_gpu(uint32_t index, uint32_t stage) {
    const std::string& name = program_->stages[stage].name;
    // Copies from pageable memory may still be on their way, and the stream waits for no other.
    check(cudaDeviceSynchronize());
    cuda::StreamSink sink(stream_.get());
    US_TRY(cuda::cuda_status(launchers_[index].launch(stage, false, sink), name));
    return cuda::cuda_status(cudaStreamSynchronize(stream_.get()), name);
  }

  void fail(std::string what) {
    if (report_->failures.size() < kMaxFailures) report_->failures.push_back(std::move(what));
  }

  // Outputs within the report's difference, all else untouched.
  void compare_arenas(uint32_t stage, const std::set<Region>& written) {
    Difference& difference = difference_of(stage);
    ++difference.num_stages;
    if (has_pages(stage)) ++difference.num_paged;
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      const std::span<float> expected = cpu_.rank(rank).arena;
      std::vector<float> seen(expected.size());
      check(cudaMemcpy(seen.data(), gpu_.view().ranks[rank].arena, seen.size() * sizeof(float),
                       cudaMemcpyDeviceToHost));
      for (const Region& region : written) {
        if (region.rank != rank) continue;
        const auto from = words_of(expected, region.buffer);
        const auto to = words_of(seen, region.buffer);
        if (is_left_to_merge(stage)) {
          const bool is_untouched = std::ranges::all_of(to, [](float v) { return std::isnan(v); });
          if (!is_untouched) fail(program_->stages[stage].name + " wrote partials of tiles");
        } else if (stages().makes_block_rows(stage)) {
          compare_block_rows(stage, rank, from, to);
        } else if (has_other_chunks(*program_, gpu_, stage)) {
          compare_words(stage, "sums over chunks", sums_over_chunks(*program_, from),
                        sums_over_chunks(*program_, to));
        } else {
          compare_words(stage, program_->buffers[region.buffer].name, from, to);
        }
        std::ranges::copy(from, to.begin());
      }
      for (size_t i = 0; i < seen.size(); ++i) {
        if (std::bit_cast<uint32_t>(seen[i]) == std::bit_cast<uint32_t>(expected[i])) continue;
        fail(fmt::format("{} changed word {} of rank {}, which it does not own",
                         program_->stages[stage].name, i, rank));
        break;
      }
    }
  }

  // Attention to tiles in several splits: the merge does it all.
  bool is_left_to_merge(uint32_t stage) const {
    const auto* op = std::get_if<program::AttentionOperands>(&program_->stages[stage].operands);
    return op != nullptr && op->num_splits > 1 && stages().tiles_of(stage) != program::kNoId;
  }

  // The rows that QkvProj made: in the cache, or on their way to tiles.
  void compare_caches(uint32_t index, uint32_t stage, const program::StepInput& input) {
    const auto* op = std::get_if<program::QkvProjOperands>(&program_->stages[stage].operands);
    if (op == nullptr || op->cache == program::kNoId) return;
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      const cpu::Cache& expected = cpu_.rank(rank).caches[op->cache];
      std::vector<float> keys(expected.keys.size()), values(expected.values.size());
      if (stages().tiles_of(stage) != program::kNoId) {
        ++report_->caches.num_tile_stages;
        if (stage + 1 < program_->stages.size() && stages().attention_stores(stage + 1)) {
          std::ranges::copy(expected.keys, keys.begin());
          std::ranges::copy(expected.values, values.begin());
          std::vector<float> rows(input.columns.size() * row_size(*op));
          check(cudaMemcpy(rows.data(), rows_on_gpu(index, rank), rows.size() * sizeof(float),
                           cudaMemcpyDeviceToHost));
          round_rows(*op, scales_of(*op, rank), rows);
          put_rows(*program_, *op, op->cache, input, rows, keys, values);
        } else {
          read_tiles(gpu_, rank, op->cache, keys, values);
        }
      } else {
        const cuda::Cache from = gpu_.cache(rank, op->cache);
        check(cudaMemcpy(keys.data(), from.keys, keys.size() * sizeof(float),
                         cudaMemcpyDeviceToHost));
        check(cudaMemcpy(values.data(), from.values, values.size() * sizeof(float),
                         cudaMemcpyDeviceToHost));
      }
      compare_heads(stage, rank, *op, false, expected.keys, keys);
      compare_heads(stage, rank, *op, true, expected.values, values);
    }
  }

  // A draft block's rows, which the processor has rounded.
  void compare_block_rows(uint32_t stage, uint32_t rank, std::span<const float> expected,
                          std::span<const float> seen) {
    const auto& op = std::get<program::QkvProjOperands>(program_->stages[stage].operands);
    std::vector<float> rounded(seen.begin(), seen.end());
    round_rows(op, scales_of(op, rank), rounded);
    const uint64_t key_size = op.num_kv_heads * op.head_dim, size = row_size(op);
    for (uint64_t row = 0; row < rounded.size(); row += size) {
      const auto part = [&](std::span<const float> rows, bool is_value) {
        return is_value ? rows.subspan(row + key_size, size - key_size)
                        : rows.subspan(row, key_size);
      };
      for (const bool is_value : {false, true}) {
        compare_heads(stage, rank, op, is_value, part(expected, is_value), part(rounded, is_value));
      }
    }
  }

  // Keys or values of rows of kv heads.
  void compare_heads(uint32_t stage, uint32_t rank, const program::QkvProjOperands& op,
                     bool is_value, std::span<const float> expected, std::span<const float> seen) {
    const auto scales = scales_of(op, rank);
    for (uint32_t head = 0; head < op.num_kv_heads; ++head) {
      const tensor::KvScales of_head = scales.empty() ? tensor::KvScales() : scales[head];
      const HeadRows rows = {head, op.num_kv_heads, is_value ? op.v_head_dim : op.head_dim,
                             is_value ? of_head.value : of_head.key};
      compare_rows(stage, rows, expected, seen);
    }
  }

  // Of kv heads; in fp8 alone.
  std::span<const tensor::KvScales> scales_of(const program::QkvProjOperands& op, uint32_t rank) {
    if (kv_cache_ != program::KvCacheType::kFp8) return {};
    return cpu_.rank(rank).kv_scales.of(op);
  }

  // A head's keys or values: rows head, head + num_heads, ... of `size`.
  struct HeadRows {
    uint32_t head, num_heads, size;
    float scale;
  };
  void compare_rows(uint32_t stage, const HeadRows& rows, std::span<const float> expected,
                    std::span<const float> seen) {
    if (kv_cache_ == program::KvCacheType::kF32) {
      if (rows.head == 0) compare_words(stage, "the KV cache", expected, seen);
      return;
    }
    CacheDifference& difference = report_->caches;
    const float row_error = kRowError * largest_of(expected);
    const uint64_t stride = uint64_t{rows.num_heads} * rows.size;
    for (uint64_t row = uint64_t{rows.head} * rows.size; row < expected.size(); row += stride) {
      for (uint64_t i = row; i < row + rows.size; ++i) {
        if (std::isnan(expected[i]) && std::isnan(seen[i])) continue;
        ++difference.num_codes;
        if (expected[i] == seen[i]) continue;
        ++difference.num_other_codes;
        if (are_neighbours(kv_cache_, rows.scale, row_error, expected[i], seen[i])) continue;
        return fail(fmt::format("{}: word {} of the KV cache: {} on the CPU, {} on the GPU",
                                program_->stages[stage].name, i, expected[i], seen[i]));
      }
    }
  }

  // The output of attention to tiles against binary64.
  void compare_attention(uint32_t stage, const program::StepInput& input) {
    const program::AttentionOperands* op = stages().attention_of(stage);
    if (op == nullptr || stages().tiles_of(stage) == program::kNoId || is_left_to_merge(stage))
      return;
    ++report_->caches.num_tile_stages;
    const auto* merge =
        std::get_if<program::AttentionMergeOperands>(&program_->stages[stage].operands);
    const program::BufferId output = merge != nullptr ? merge->output : op->output;
    for (uint32_t rank = 0; rank < cpu_.num_ranks(); ++rank) {
      cpu::RankMemory& memory = cpu_.rank(rank);
      const program::BufferDecl& decl = program_->buffers[output];
      std::vector<float> seen(decl.size_bytes / sizeof(float));
      check(cudaMemcpy(seen.data(),
                       gpu_.view().ranks[rank].arena + decl.offset_bytes / sizeof(float),
                       decl.size_bytes, cudaMemcpyDeviceToHost));
      AttentionRows rows;
      rows.op = op;
      rows.program = program_;
      rows.input = &input;
      rows.query = words_of(memory.arena, op->query);
      std::vector<float> keys(memory.caches[op->cache].keys.begin(),
                              memory.caches[op->cache].keys.end());
      std::vector<float> values(memory.caches[op->cache].values.begin(),
                                memory.caches[op->cache].values.end());
      if (op->is_draft_block != 0) {
        put_rows(*program_, stages().writer_of(*op), op->cache, input,
                 words_of(memory.arena, op->cache_rows), keys, values);
      }
      rows.keys = keys;
      rows.values = values;
      if (op->sink != program::kNoId) {
        rows.sinks = reinterpret_cast<const float*>(memory.weights[op->sink].bytes.data());
      }
      rows.format = cuda::tile_format(gpu_.cache_form(op->cache));
      report_->caches.worst_of_bound =
          std::max(report_->caches.worst_of_bound, worst_of_bound(rows, seen));
    }
  }

  void compare_words(uint32_t stage, const std::string& what, std::span<const float> expected,
                     std::span<const float> seen) {
    const bool is_route = program_->stages[stage].opcode() == program::Opcode::kRoute;
    const float most = largest_of(expected);
    Difference& difference = difference_of(stage);
    for (size_t i = 0; i < expected.size(); ++i) {
      const float a = expected[i];
      const float b = seen[i];
      ++difference.num_words;
      if (std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b)) {
        ++difference.num_equal;
        continue;
      }
      // Ids and counts are tiny as floats: they must have been equal.
      constexpr float kNoInteger = 1e-20F;
      const bool is_number = std::abs(a) > kNoInteger || std::abs(b) > kNoInteger;
      if (std::isnan(a) && std::isnan(b)) continue;
      if (!std::isfinite(a) || !std::isfinite(b) || (is_route && !is_number)) {
        return fail(fmt::format("{}: word {} of {}: {} on the CPU, {} on the GPU",
                                program_->stages[stage].name, i, what, a, b));
      }
      const double relative = std::abs(double{a} - double{b}) / static_cast<double>(most);
      difference.largest_relative = std::max(difference.largest_relative, relative);
    }
  }

  void compare_outputs(const program::StepOutput& expected, const program::StepOutput& seen) {
    for (size_t t = 0; t < expected.columns.size(); ++t) {
      const program::ColumnOutput& a = expected.columns[t];
      const program::ColumnOutput& b = seen.columns[t];
      const auto close = [](float x, float y) { return std::abs(x - y) < 1e-5F; };
      bool same = a.token_id == b.token_id && close(a.logprob, b.logprob) && a.logit == b.logit &&
                  a.accepted == b.accepted && a.drafted_id == b.drafted_id &&
                  a.proposed_ids == b.proposed_ids && a.proposed_logits == b.proposed_logits &&
                  a.top_logprobs.size() == b.top_logprobs.size();
      for (size_t i = 0; same && i < a.top_logprobs.size(); ++i) {
        same = a.top_logprobs[i].first == b.top_logprobs[i].first &&
               close(a.top_logprobs[i].second, b.top_logprobs[i].second);
      }
      if (same) continue;
      fail(
          fmt::format("column {}: token {} ({}), {} accepted, drafted {} on the CPU; token {} "
                      "({}), {} accepted, drafted {} on the GPU",
                      t, a.token_id, a.logprob, a.accepted, a.drafted_id, b.token_id, b.logprob,
                      b.accepted, b.drafted_id));
    }
  }

  bool has_pages(uint32_t stage) const {
    return std::visit(
        [&](const auto& op) {
          if constexpr (requires { op.weight; }) {
            return gpu_.form(op.weight) != cuda::WeightForm::kCanonical;
          } else {
            return false;
          }
        },
        program_->stages[stage].operands);
  }

  Difference& difference_of(uint32_t stage) {
    return report_->by_opcode[static_cast<size_t>(program_->stages[stage].opcode())];
  }

  DifferenceReport* report_;
  program::Activations activations_;
  program::KvCacheType kv_cache_;
  std::vector<cuda::StageLauncher> launchers_;  // [program]
  cpu::Machine cpu_;
  cpu::Scratch scratch_;
  cuda::Machine gpu_;
  cuda::Stream stream_;
  std::unique_ptr<cuda::StepImage> step_;
  const program::Program* program_ = nullptr;
};

}  // namespace

std::string DifferenceReport::table() const {
  std::string text = fmt::format("{:16} {:>7} {:>10} {:>9} {:>12}\n", "operation", "stages",
                                 "words", "equal", "difference");
  for (uint32_t i = 0; i < program::kNumOpcodes; ++i) {
    const Difference& of = by_opcode[i];
    if (of.num_stages == 0) continue;
    const double equal = 100.0 * static_cast<double>(of.num_equal) /
                         static_cast<double>(std::max<uint64_t>(of.num_words, 1));
    text += fmt::format("{:16} {:7} {:10} {:7.2f} % {:12.2e}\n", program::kOpcodeNames[i],
                        of.num_stages, of.num_words, equal, of.largest_relative);
  }
  return text;
}

std::unique_ptr<program::Executor> make_differential_executor(DifferenceReport* report,
                                                              program::Activations activations,
                                                              program::KvCacheType kv_cache) {
  return std::make_unique<DifferentialExecutor>(report, activations, kv_cache);
}

}  // namespace ultraspeed::test
