#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "program/access.h"
#include "program/print.h"
#include "program/verify_internal.h"

namespace ultraspeed::program::internal {
namespace {

class StructureCheck {
 public:
  explicit StructureCheck(const Program& program) : program_(program) {}

  Status run() {
    US_TRY(check_header());
    for (const Stage& stage : program_.stages) US_TRY(check_stage(stage));
    arrivals_.assign(uint64_t{program_.num_ranks} * program_.num_counters, 0);
    counter_stage_.assign(program_.num_counters, kNoId);
    US_TRY(for_each_task([this] { return check_task(); }));
    US_TRY(check_blocks_disjoint());
    US_TRY(for_each_task([this] { return check_waits(); }));
    return check_flag_ranges();
  }

 private:
  template <class Function>
  Status for_each_task(Function function) {
    for (rank_ = 0; rank_ < program_.num_ranks; ++rank_) {
      for (worker_ = 0; worker_ < program_.num_workers; ++worker_) {
        const auto& list = program_.list(rank_, worker_);
        for (index_ = 0; index_ < list.size(); ++index_) {
          task_ = &list[index_];
          US_TRY(function());
        }
      }
    }
    return {};
  }

  template <class... Args>
  tl::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) const {
    return make_error(ErrorCode::kInvalidData, "program '{}': {}: {}", program_.name,
                      task_location(program_, rank_, worker_, index_),
                      fmt::format(format, std::forward<Args>(args)...));
  }

  tl::unexpected<Error> fail_header(std::string_view what) const {
    return make_error(ErrorCode::kInvalidData, "program '{}': {}", program_.name, what);
  }

  Status check_header() const {
    if (program_.num_ranks == 0 || kReductionChunks % program_.num_ranks != 0) {
      return fail_header("the number of ranks must divide the 8 reduction chunks");
    }
    if (program_.hidden_size == 0 || program_.hidden_size % program_.num_ranks != 0) {
      return fail_header("the ranks must divide the hidden size");
    }
    if (program_.lists.size() != uint64_t{program_.num_ranks} * program_.num_workers) {
      return fail_header("one task list per rank and worker is needed");
    }
    const auto is_stride = [this](uint32_t stride) {
      return stride != 0 && program_.num_ranks % stride == 0;
    };
    for (const WeightDecl& weight : program_.weights) {
      if (is_stride(weight.rank_stride)) continue;
      return fail_header(fmt::format("every {}th of the ranks cannot have a share of '{}'",
                                     weight.rank_stride, weight.name));
    }
    for (const BufferDecl& buffer : program_.buffers) {
      if (!is_stride(buffer.rank_stride)) {
        return fail_header(fmt::format("every {}th of the ranks cannot have a share of '{}'",
                                       buffer.rank_stride, buffer.name));
      }
      if (buffer.extent == 0 || buffer.offset_bytes % 64 != 0 ||
          buffer.offset_bytes + buffer.size_bytes > program_.arena_bytes) {
        return fail_header(fmt::format("buffer '{}' does not lie in the arena", buffer.name));
      }
    }
    return {};
  }

  // Operand ids are in range, so that everything after this may index with them.
  Status check_stage(const Stage& stage) const {
    const StageReferences ids = stage_references(stage.operands);
    const auto valid = [](const auto& list, size_t count) {
      return std::all_of(list.begin(), list.end(), [&](uint32_t id) { return id < count; });
    };
    if (!valid(ids.buffers, program_.buffers.size()) ||
        !valid(ids.weights, program_.weights.size()) ||
        !valid(ids.caches, program_.caches.size())) {
      return fail_header(fmt::format(
          "stage '{}' names a buffer, weight or cache that does not exist", stage.name));
    }
    return check_cache_shares(stage);
  }

  // The ranks that fill a cache are those that have it.
  Status check_cache_shares(const Stage& stage) const {
    const auto* op = std::get_if<QkvProjOperands>(&stage.operands);
    if (op == nullptr || op->cache == kNoId) return {};
    const uint32_t stride = program_.caches[op->cache].rank_stride;
    if (stride == program_.buffers[op->cache_rows].rank_stride &&
        stride == program_.weights[op->weight].rank_stride) {
      return {};
    }
    return fail_header(
        fmt::format("stage '{}' does not fill its cache on the ranks that have it", stage.name));
  }

  Status check_task() {
    if (task_->stage >= program_.stages.size())
      return fail("stage {} does not exist", task_->stage);
    const Stage& stage = program_.stages[task_->stage];
    if (task_->opcode != stage.opcode()) {
      return fail("opcode {} in a stage of {}", opcode_name(task_->opcode),
                  opcode_name(stage.opcode()));
    }
    if (task_->layer != stage.layer) return fail("layer differs from its stage's {}", stage.layer);
    if (task_->row_count == 0) return fail("an empty tile");
    US_TRY(check_tile(stage));
    US_TRY(check_blocks());
    return count_signal();
  }

  Status check_tile(const Stage& stage) {
    task_accesses(program_, rank_, *task_, &accesses_);
    for (const Access& access : accesses_) {
      const BufferDecl& buffer = program_.buffers[access.buffer];
      if (access.rank >= program_.num_ranks || access.begin >= access.end ||
          access.end > buffer.extent) {
        return fail("tile [{}, {}) part {} leaves buffer '{}' of extent {} (range [{}, {}))",
                    task_->row_begin, uint64_t{task_->row_begin} + task_->row_count, task_->part,
                    buffer.name, buffer.extent, access.begin, access.end);
      }
    }
    if (has_owners(stage.operands)) {
      const uint32_t rows_per_rank = program_.hidden_size / program_.num_ranks;
      const uint32_t last = task_->row_begin + task_->row_count - 1;
      if (task_->row_begin / rows_per_rank != last / rows_per_rank) {
        return fail("tile [{}, {}] crosses the rows of two ranks", task_->row_begin, last);
      }
    }
    return check_loop(stage);
  }

  // Whether the rows of a tile belong to one rank.
  static bool has_owners(const Operands& operands) {
    return std::visit(
        [](const auto& op) {
          using T = std::decay_t<decltype(op)>;
          constexpr bool kIsProduct =
              std::is_same_v<T, OutProjOperands> || std::is_same_v<T, ExpertDownOperands>;
          if constexpr (kIsProduct) return op.to_all == 0;
          if constexpr (std::is_same_v<T, ReduceOperands>) return op.is_own == 0;
          return std::is_same_v<T, EmbedOperands>;
        },
        operands);
  }

  // Only loops over units use `part` as a stride; elsewhere it must be a part that exists.
  Status check_loop(const Stage& stage) const {
    if (const auto* op = std::get_if<ExpertGateUpOperands>(&stage.operands)) {
      if (task_->row_count != 1 || task_->part == 0) {
        return fail("a loop over units needs row_count 1 and a stride");
      }
      const bool signals_slots = task_->signal.kind == SignalKind::kSlot;
      if (!signals_slots) return fail("a loop over units must signal slots");
      return op->intermediate_size % op->row_groups == 0
                 ? Status{}
                 : fail("{} row groups do not divide {}", op->row_groups, op->intermediate_size);
    }
    uint32_t parts = 1;
    if (const auto* op = std::get_if<QkvProjOperands>(&stage.operands)) parts = op->head_parts;
    if (const auto* op = std::get_if<AttentionOperands>(&stage.operands)) parts = op->num_splits;
    if (task_->part >= parts) return fail("part {} of {}", task_->part, parts);
    return {};
  }

  Status check_blocks() {
    const WeightRows rows = task_weight_rows(program_, *task_);
    if (rows.weight == kNoId) {
      if (task_->first_block == kNoId && task_->block_count == 0) return {};
      return fail("weight blocks on a task without weights");
    }
    const WeightDecl& weight = program_.weights[rows.weight];
    if (!has_share(rank_, weight.rank_stride)) return fail("rank without '{}'", weight.name);
    const uint64_t bytes = tensor::packed_bytes(weight.format, rows.rows, weight.cols);
    const uint64_t blocks = (bytes + kWeightBlockBytes - 1) / kWeightBlockBytes;
    const uint64_t begin = task_->first_block;
    const uint64_t end = weight.first_block + weight.blocks_per_matrix;
    if (task_->block_count != blocks || begin < weight.first_block || begin + blocks > end) {
      return fail("weight blocks [{}, +{}), expected {} blocks inside [{}, {}) of '{}'", begin,
                  task_->block_count, blocks, weight.first_block, end, weight.name);
    }
    // A product streams page by page, one in use while the next arrives.
    const uint64_t at_once = bytes > program_.weight_page_bytes ? 2 : 1;
    if (at_once > program_.ring_pages) {
      return fail("needs {} ring pages at once, there are {}", at_once, program_.ring_pages);
    }
    const Operands& operands = program_.stages[task_->stage].operands;
    if (const auto* loop = std::get_if<ExpertGateUpOperands>(&operands)) {
      // Every task of the loop finds unit u's row group at the same place of the matrix.
      const uint64_t all_groups = blocks * loop->row_groups;
      return begin == weight.first_block && all_groups == weight.blocks_per_matrix
                 ? Status{}
                 : fail("its units' weight blocks begin at {}, expected {} for {} groups of {}",
                        begin, weight.first_block, loop->row_groups, blocks);
    }
    blocks_.push_back({rank_, task_->first_block, task_->block_count, task_->row_begin, task_->part,
                       rows.weight, task_->stage});
    return {};
  }

  Status check_blocks_disjoint() {
    std::sort(blocks_.begin(), blocks_.end());
    for (size_t i = 1; i < blocks_.size(); ++i) {
      const BlockRange& a = blocks_[i - 1];
      const BlockRange& b = blocks_[i];
      if (a.rank == b.rank && a.first + a.count > b.first && !a.is_same_tile(b)) {
        return fail_header(fmt::format("rank {}: tiles of '{}' and '{}' share weight block {}",
                                       a.rank, program_.stages[a.stage].name,
                                       program_.stages[b.stage].name, b.first));
      }
    }
    return {};
  }

  Status count_signal() {
    const Signal& signal = task_->signal;
    if (signal.kind == SignalKind::kNone) return {};
    if (signal.kind == SignalKind::kSlot) return count_slot_signal();
    if (signal.id >= program_.num_counters || signal.rank >= program_.num_ranks) {
      return fail("signals counter {} of rank {}, which does not exist", signal.id, signal.rank);
    }
    // Ids agree across ranks: a counter belongs to the tasks of one stage everywhere.
    uint32_t& stage = counter_stage_[signal.id];
    if (stage == kNoId) stage = task_->stage;
    if (stage != task_->stage) {
      return fail("signals counter {}, which belongs to stage '{}'", signal.id,
                  program_.stages[stage].name);
    }
    for (uint32_t rank = 0; rank < program_.num_ranks; ++rank) {
      const bool hit = signal.scope == SignalScope::kAllRanks ||
                       rank == (signal.scope == SignalScope::kLocal ? rank_ : signal.rank);
      if (hit) ++arrivals_[uint64_t{rank} * program_.num_counters + signal.id];
    }
    return {};
  }

  Status count_slot_signal() {
    const auto* op = std::get_if<ExpertGateUpOperands>(&program_.stages[task_->stage].operands);
    if (op == nullptr || task_->signal.scope != SignalScope::kLocal) {
      return fail("only a loop over units signals slots, on its own rank");
    }
    const uint64_t units = uint64_t{op->max_slots} * op->row_groups;
    if (task_->signal.id + units > program_.num_flags) return fail("flags beyond the last");
    const FlagFamily family{task_->signal.id, static_cast<uint32_t>(units), task_->stage,
                            op->row_groups};
    const auto [it, inserted] = families_.try_emplace(task_->signal.id, family);
    if (!inserted && it->second.stage != task_->stage) {
      return fail("its flags belong to stage '{}'", program_.stages[it->second.stage].name);
    }
    return {};
  }

  Status check_waits() {
    for (const Wait& wait : task_->waits) {
      if (wait.kind == WaitKind::kCounter) {
        if (wait.id >= program_.num_counters) return fail("waits for no counter {}", wait.id);
        const uint32_t arriving = arrivals_[uint64_t{rank_} * program_.num_counters + wait.id];
        if (wait.need != arriving) {
          return fail("waits for {} increments of counter {}, which gets {}", wait.need, wait.id,
                      arriving);
        }
      } else if (wait.kind == WaitKind::kSlot) {
        const auto family = families_.find(wait.id);
        const auto* op = std::get_if<ExpertDownOperands>(&program_.stages[task_->stage].operands);
        if (op == nullptr || family == families_.end() || wait.need != family->second.row_groups ||
            wait.need != op->row_groups) {
          return fail("waits for {} flags a slot at {}, which no stage sets", wait.need, wait.id);
        }
      }
    }
    return {};
  }

  Status check_flag_ranges() const {
    uint64_t last_end = 0;
    for (const auto& [id, family] : families_) {
      if (id < last_end) return fail_header("two stages share slot flags");
      last_end = uint64_t{id} + family.count;
    }
    return {};
  }

  struct BlockRange {
    uint32_t rank, first, count, row_begin, part, weight, stage;
    bool operator<(const BlockRange& other) const {
      return std::tuple(rank, first, stage) < std::tuple(other.rank, other.first, other.stage);
    }
    // Two stages that use one weight, such as the output head of a target and its drafter, read the
    // same rows from the same blocks.
    bool is_same_tile(const BlockRange& other) const {
      return weight == other.weight && stage != other.stage && first == other.first &&
             count == other.count && row_begin == other.row_begin && part == other.part;
    }
  };
  struct FlagFamily {
    uint32_t first, count, stage, row_groups;
  };

  const Program& program_;
  uint32_t rank_ = 0, worker_ = 0;
  size_t index_ = 0;
  const Task* task_ = nullptr;
  std::vector<Access> accesses_;
  std::vector<uint32_t> arrivals_;       // [rank, counter]
  std::vector<uint32_t> counter_stage_;  // [counter]
  std::vector<BlockRange> blocks_;
  std::map<uint32_t, FlagFamily> families_;  // by first flag
};

}  // namespace

Status verify_structure(const Program& program) {
  return StructureCheck(program).run();
}

}  // namespace ultraspeed::program::internal
