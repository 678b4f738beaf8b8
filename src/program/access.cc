#include "program/access.h"

#include <type_traits>

#include "program/logit_shards.h"

namespace ultraspeed::program {
namespace {

// Collects the accesses of one task; one overload of visit() per opcode.
class Collector {
 public:
  Collector(const Program& program, uint32_t rank, const Task& task, std::vector<Access>* out)
      : program_(program), rank_(rank), task_(task), out_(out) {}

  void visit(const EmbedOperands& op) {
    for (const BufferId tokens : {op.drafted, op.tokens}) {
      if (tokens != kNoId) read_all(tokens);
    }
    for (uint32_t r = 0; r < program_.num_ranks; ++r) write(r, op.hidden, begin(), end());
  }

  void visit(const QkvProjOperands& op) {
    read_all(op.hidden);
    const uint32_t first_k = op.num_q_heads;
    const uint32_t first_v = op.num_q_heads + op.num_kv_heads;
    const uint32_t last = first_v + op.num_kv_heads;
    for (uint32_t head = begin(); head < end(); ++head) {
      if (head < first_k) {
        write_rotated_head(op, op.query, head * op.head_dim);
      } else if (head < first_v) {
        write_rotated_head(op, op.cache_rows, (head - first_k) * op.head_dim);
      } else if (op.num_kv_heads == 0) {
        write(rank_, op.query, past_end(op.query), past_end(op.query));
      } else {
        const uint32_t part_rows = op.v_head_dim / op.head_parts;
        const uint32_t row = op.num_kv_heads * op.head_dim + (head - first_v) * op.v_head_dim +
                             task_.part * part_rows;
        // A head past the last gives rows past the extent, which verify() reports.
        const uint32_t overflow = head < last ? 0 : past_end(op.cache_rows);
        write(rank_, op.cache_rows, row + overflow, row + overflow + part_rows);
      }
    }
  }

  void visit(const AttentionOperands& op) {
    const uint32_t group = op.num_q_heads / op.num_kv_heads;
    read(op.query, begin() * op.head_dim, end() * op.head_dim);
    for (uint32_t kv = begin() / group; kv < (end() + group - 1) / group; ++kv) {
      const uint32_t v_rows = op.num_kv_heads * op.head_dim;
      read(op.cache_rows, kv * op.head_dim, (kv + 1) * op.head_dim);
      read(op.cache_rows, v_rows + kv * op.v_head_dim, v_rows + (kv + 1) * op.v_head_dim);
    }
    if (op.num_splits == 1) {
      write(rank_, op.output, begin() * op.v_head_dim, end() * op.v_head_dim);
      return;
    }
    for (uint32_t head = begin(); head < end(); ++head) {
      const uint32_t index = head * op.num_splits + task_.part;
      write(rank_, op.output, index, index + 1);
    }
  }

  void visit(const AttentionMergeOperands& op) {
    read(op.partials, begin() * op.num_splits, end() * op.num_splits);
    write(rank_, op.output, begin() * op.v_head_dim, end() * op.v_head_dim);
  }

  void visit(const OutProjOperands& op) {
    read_all(op.input);
    push_partials(op);
  }

  void visit(const ReduceOperands& op) {
    for (uint32_t chunk = 0; chunk < kReductionChunks; ++chunk) {
      const uint32_t base = chunk * program_.hidden_size;
      read(op.partials, base + begin(), base + end());
    }
    read(op.residual, begin(), end());
    if (op.is_own != 0) return write(rank_, op.output, begin(), end());
    for (uint32_t r = 0; r < program_.num_ranks; ++r) write(r, op.output, begin(), end());
  }

  void visit(const GateUpOperands& op) {
    read_all(op.hidden);
    write(rank_, op.output, begin(), end());
  }

  void visit(const LinearOperands& op) {
    read_all(op.input);
    for (const BufferId input : op.more_inputs) {
      if (input != kNoId) read_all(input);
    }
    if (op.accepted != kNoId) read_all(op.accepted);
    const uint32_t first = op.rows == op.total_rows ? 0 : rank_ * op.rows;
    if (op.keeps_share != 0) {
      for (uint32_t t = 0; t < program_.width; ++t) {
        const uint32_t row = t * op.total_rows + first;
        write(rank_, op.output, row + begin(), row + end());
      }
      return;
    }
    const auto push = [&](uint32_t r) { write(r, op.output, first + begin(), first + end()); };
    if (op.broadcast == 0) return push(op.gather_to_rank_0 != 0 ? 0 : rank_);
    for (uint32_t r = 0; r < program_.num_ranks; ++r) push(r);
  }

  void visit(const RouteOperands& op) {
    read_all(op.logits);
    write(rank_, op.route, begin(), end());
  }

  void visit(const ExpertGateUpOperands& op) {
    read_all(op.hidden);
    read_all(op.route);
    out_->back().of_bounds = true;
    const uint32_t units = op.max_slots * op.row_groups;
    for (uint32_t unit = begin(); unit < units && task_.part > 0; unit += task_.part) {
      write(rank_, op.activation, unit, unit + 1);
    }
  }

  void visit(const ExpertDownOperands& op) {
    read_all(op.route);
    out_->push_back({rank_, op.activation, 0, program_.buffers[op.activation].extent, false, true});
    push_partials(op);
  }

  void visit(const SampleOperands& op) {
    switch (op.part) {
      case SamplePart::kWhole:
        read_all(op.logits);
        return choose(op);
      case SamplePart::kPeaks:
        return visit_peaks(op);
      case SamplePart::kShortlist:
        return visit_shortlist(op);
      case SamplePart::kChoice:
        read(op.logits, begin() * op.vocab_size, end() * op.vocab_size);
        read(op.peaks, begin() * program_.num_ranks, end() * program_.num_ranks);
        read(op.piece_sums, begin() * num_logit_pieces(op.vocab_size),
             end() * num_logit_pieces(op.vocab_size));
        read(op.shortlists, begin() * program_.num_ranks, end() * program_.num_ranks);
        return choose(op);
    }
  }

  void visit(const NominateOperands& op) {
    if (op.of_share != 0) return nominate_from_share(op);
    read_all(op.logits);
    write(rank_, op.nominees, begin(), end());
  }

  void visit(const ProposeOperands& op) {
    if (op.nominees != kNoId) {
      read(op.logits, begin() * op.vocab_size, end() * op.vocab_size);
      read(op.nominees, begin() * program_.num_ranks, end() * program_.num_ranks);
    } else {
      read_all(op.selects() ? op.selector.nominees : op.logits);
    }
    if (op.selects()) read_all(op.selector.rows);
    if (op.accepted != kNoId) read_all(op.accepted);
    for (uint32_t r = 0; r < program_.num_ranks; ++r) write(r, op.drafted, begin(), end());
  }

  void visit(const AcceptOperands& op) {
    read_all(op.sampled);
    if (op.drafted != kNoId) read_all(op.drafted);
    if (op.broadcast == 0) return write(rank_, op.accepted, begin(), end());
    for (uint32_t r = 0; r < program_.num_ranks; ++r) write(r, op.accepted, begin(), end());
  }

  void visit(const FollowOperands& op) {
    read_all(op.sampled);
    read_all(op.accepted);
    for (const BufferId proposed : op.proposed) {
      if (proposed != kNoId) read_all(proposed);
    }
    for (uint32_t r = 0; r < program_.num_ranks; ++r) write(r, op.tokens, begin(), end());
  }

 private:
  uint32_t begin() const { return task_.row_begin; }
  uint32_t end() const { return task_.row_begin + task_.row_count; }
  uint32_t past_end(BufferId buffer) const { return program_.buffers[buffer].extent; }

  void read(BufferId buffer, uint32_t first, uint32_t last) {
    out_->push_back({rank_, buffer, first, last, false, false});
  }
  void read_all(BufferId buffer) { read(buffer, 0, program_.buffers[buffer].extent); }
  void write(uint32_t rank, BufferId buffer, uint32_t first, uint32_t last) {
    out_->push_back({rank, buffer, first, last, true, false});
  }

  void choose(const SampleOperands& op) {
    if (op.draft_logits != kNoId) read_all(op.draft_logits);
    if (op.drafted != kNoId) read_all(op.drafted);
    write(rank_, op.sampled, begin(), end());
  }

  // Other ranks get the rest of the piece that they sum; rank 0 all, of the columns that need it.
  void visit_peaks(const SampleOperands& op) {
    const LogitShare share(op.vocab_size, program_.num_ranks, rank_);
    for (uint32_t t = begin(); t < end(); ++t) {
      const uint32_t row = t * op.vocab_size;
      read(op.logits, row + share.begin, row + share.end);
      for (uint32_t r = 0; r < program_.num_ranks; ++r) {
        const uint32_t place = t * program_.num_ranks + rank_;
        write(r, op.peaks, place, place + 1);
      }
      if (rank_ == 0) continue;
      uint32_t on_demand_begin = share.begin;
      if (share.head_end() > share.begin) {
        write(share.head_owner(), op.logits, row + share.begin, row + share.head_end());
        if (share.head_owner() == 0) on_demand_begin = share.head_end();
      }
      if (on_demand_begin == share.end) continue;
      write(0, op.logits, row + on_demand_begin, row + share.end);
      out_->back().on_demand = true;
    }
  }

  void nominate_from_share(const NominateOperands& op) {
    const LogitShare share(op.vocab_size, program_.num_ranks, rank_);
    if (op.accepted != kNoId) read_all(op.accepted);
    for (uint32_t t = begin(); t < end(); ++t) {
      const uint32_t row = t * op.vocab_size, place = t * program_.num_ranks + rank_;
      read(op.logits, row + share.begin, row + share.end);
      write(0, op.nominees, place, place + 1);
      if (rank_ == 0) continue;
      write(0, op.logits, row + share.begin, row + share.end);
      out_->back().on_demand = true;
    }
  }

  void visit_shortlist(const SampleOperands& op) {
    const LogitShare share(op.vocab_size, program_.num_ranks, rank_);
    for (uint32_t t = begin(); t < end(); ++t) {
      const uint32_t row = t * op.vocab_size;
      read(op.logits, row + share.begin, row + share.pieces_end());
      read(op.peaks, t * program_.num_ranks, (t + 1) * program_.num_ranks);
      const uint32_t sums = t * num_logit_pieces(op.vocab_size);
      if (share.first_piece() < share.end_piece()) {
        write(0, op.piece_sums, sums + share.first_piece(), sums + share.end_piece());
      }
      const uint32_t place = t * program_.num_ranks + rank_;
      write(0, op.shortlists, place, place + 1);
    }
  }

  // A part of a head owns a share of the rotation pairs (i, i + rotary_dim / 2) and of the rest.
  void write_rotated_head(const QkvProjOperands& op, BufferId buffer, uint32_t base) {
    const uint32_t half = op.rotary_dim / 2;
    const uint32_t pairs = half / op.head_parts;
    const uint32_t rest = (op.head_dim - op.rotary_dim) / op.head_parts;
    const uint32_t low = base + task_.part * pairs;
    const uint32_t tail = base + op.rotary_dim + task_.part * rest;
    if (op.head_parts == 1) {
      write(rank_, buffer, base + task_.part * op.head_dim, base + (task_.part + 1) * op.head_dim);
      return;
    }
    if (pairs > 0) {
      write(rank_, buffer, low, low + pairs);
      write(rank_, buffer, low + half, low + half + pairs);
    }
    if (rest > 0) write(rank_, buffer, tail, tail + rest);
  }

  // This rank's chunks of the tile's rows, at the rank that owns them, or at all.
  template <class Product>
  void push_partials(const Product& op) {
    // A tile that crosses into the next owner's rows would be pushed to the wrong rank.
    const uint32_t owner = begin() / (program_.hidden_size / program_.num_ranks);
    const uint32_t first = op.to_all != 0 ? 0 : owner;
    const uint32_t last = op.to_all != 0 ? program_.num_ranks - 1 : owner;
    for (uint32_t rank = first; rank <= last; ++rank) {
      for (uint32_t i = 0; i < program_.num_chunks(op.weight); ++i) {
        const uint32_t base = (program_.first_chunk(rank_) + i) * program_.hidden_size;
        write(rank, op.partials, base + begin(), base + end());
      }
    }
  }

  const Program& program_;
  uint32_t rank_;
  const Task& task_;
  std::vector<Access>* out_;
};

template <class T>
WeightRows rows_of(const Task& task, const T& op) {
  if constexpr (std::is_same_v<T, QkvProjOperands>) {
    uint64_t rows = 0;
    for (uint32_t head = task.row_begin; head < task.row_begin + task.row_count; ++head) {
      const bool is_value = head >= op.num_q_heads + op.num_kv_heads;
      rows += (is_value ? op.v_head_dim : op.head_dim) / op.head_parts;
    }
    return {op.weight, rows};
  } else if constexpr (std::is_same_v<T, GateUpOperands>) {
    return {op.weight, uint64_t{2} * task.row_count};
  } else if constexpr (std::is_same_v<T, ExpertGateUpOperands>) {
    return {op.weight, uint64_t{2} * op.intermediate_size / op.row_groups};
  } else if constexpr (std::is_same_v<T, OutProjOperands> || std::is_same_v<T, LinearOperands> ||
                       std::is_same_v<T, ExpertDownOperands>) {
    return {op.weight, task.row_count};
  } else {
    return {};
  }
}

}  // namespace

void task_accesses(const Program& program, uint32_t rank, const Task& task,
                   std::vector<Access>* out) {
  out->clear();
  Collector collector(program, rank, task, out);
  std::visit([&](const auto& op) { collector.visit(op); }, program.stages[task.stage].operands);
}

WeightRows task_weight_rows(const Program& program, const Task& task) {
  return std::visit([&](const auto& op) { return rows_of(task, op); },
                    program.stages[task.stage].operands);
}

uint32_t task_max_units(const Program& program, const Task& task) {
  const Operands& operands = program.stages[task.stage].operands;
  if (const auto* op = std::get_if<ExpertGateUpOperands>(&operands)) {
    const uint32_t units = op->max_slots * op->row_groups;
    if (task.part == 0 || task.row_begin >= units) return 0;
    return (units - task.row_begin + task.part - 1) / task.part;
  }
  if (const auto* op = std::get_if<ExpertDownOperands>(&operands)) return op->max_slots;
  return 1;
}

}  // namespace ultraspeed::program
