#include "program/verify_memory.h"

#include "program/print.h"

namespace ultraspeed::program::internal {

MemoryProof::MemoryProof(const Program& program)
    : program_(program), values_(uint64_t{program.num_ranks} * program.buffers.size()) {
  std::vector<uint64_t> cuts;
  for (const BufferDecl& buffer : program.buffers) {
    if (buffer.size_bytes == 0) continue;
    cuts.push_back(buffer.offset_bytes);
    cuts.push_back(buffer.offset_bytes + buffer.size_bytes);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  num_segments_ = cuts.size();
  segments_.resize(program.num_ranks * num_segments_);
  const auto index_of = [&](uint64_t offset) {
    return static_cast<uint32_t>(std::lower_bound(cuts.begin(), cuts.end(), offset) - cuts.begin());
  };
  for (const BufferDecl& buffer : program.buffers) {
    const bool in_arena = buffer.size_bytes > 0;
    spans_.emplace_back(in_arena ? index_of(buffer.offset_bytes) : 0,
                        in_arena ? index_of(buffer.offset_bytes + buffer.size_bytes) : 0);
  }
}

tl::unexpected<Error> MemoryProof::fail(TaskId task, const Access& access,
                                        const std::string& what) const {
  return make_error(ErrorCode::kInvalidData, "program '{}': {}: {} [{}, {}) of '{}' on rank {}: {}",
                    program_.name,
                    task_location(program_, task.thread / program_.num_workers,
                                  task.thread % program_.num_workers, task.index),
                    access.is_write ? "writes" : "reads", access.begin, access.end,
                    program_.buffers[access.buffer].name, access.rank, what);
}

void MemoryProof::mark_used(TaskId task, const Access& access) {
  const auto [first, last] = spans_[access.buffer];
  if (first == last) return;
  Clock& used = value(access.rank, access.buffer).used;
  if (used.empty()) used.assign(program_.lists.size(), 0);
  const uint32_t at = access.of_bounds ? task_done(task.index) : units_done(task.index);
  used[task.thread] = std::max(used[task.thread], at);
}

Status MemoryProof::check_reads(TaskId task, const Clock& clock,
                                const std::vector<Access>& accesses, bool per_unit) {
  for (const Access& access : accesses) {
    if (access.is_write || access.per_unit != per_unit) continue;
    const auto [first, last] = spans_[access.buffer];
    for (uint32_t i = first; i < last; ++i) {
      const BufferId holder = segment(access.rank, i).holder;
      if (holder == access.buffer) continue;
      return fail(task, access,
                  holder == kNoId ? "nothing has been written there"
                                  : "its memory holds '" + program_.buffers[holder].name + "'");
    }
    const std::vector<Write>& writes = value(access.rank, access.buffer).writes;
    auto write = std::upper_bound(writes.begin(), writes.end(), access.begin,
                                  [](uint32_t at, const Write& w) { return at < w.end; });
    uint32_t covered = access.begin;
    for (; write != writes.end() && write->begin <= covered && covered < access.end; ++write) {
      if (clock[write->task.thread] < units_done(write->task.index)) {
        return fail(
            task, access,
            "not ordered after its write by " +
                task_location(program_, write->task.thread / program_.num_workers,
                              write->task.thread % program_.num_workers, write->task.index));
      }
      covered = write->end;
    }
    if (covered < access.end) {
      return fail(task, access, "element " + std::to_string(covered) + " is never written before");
    }
    mark_used(task, access);
  }
  return {};
}

// The first writer of a new value takes the memory over; every writer must come after the last use
// of what was there.
Status MemoryProof::take_memory(TaskId task, const Clock& clock, const Access& write) {
  const auto [first, last] = spans_[write.buffer];
  for (uint32_t i = first; i < last; ++i) {
    Segment& part = segment(write.rank, i);
    if (part.holder != write.buffer) {
      if (part.holder != kNoId) part.former = value(write.rank, part.holder).used;
      part.holder = write.buffer;
    }
    if (!part.former.empty() && !covers(clock, part.former)) {
      return fail(task, write, "its memory may still be in use for a former value");
    }
  }
  return {};
}

Status MemoryProof::apply_writes(TaskId task, const Clock& clock,
                                 const std::vector<Access>& accesses) {
  for (const Access& access : accesses) {
    if (!access.is_write) continue;
    std::vector<Write>& writes = value(access.rank, access.buffer).writes;
    const auto next = std::upper_bound(writes.begin(), writes.end(), access.begin,
                                       [](uint32_t at, const Write& w) { return at < w.end; });
    if (next != writes.end() && next->begin < access.end) {
      return fail(task, access,
                  "already written by " +
                      task_location(program_, next->task.thread / program_.num_workers,
                                    next->task.thread % program_.num_workers, next->task.index));
    }
    US_TRY(take_memory(task, clock, access));
    writes.insert(next, Write{access.begin, access.end, task});
    mark_used(task, access);
  }
  return {};
}

Status MemoryProof::check_outputs() const {
  using Output = BufferDecl::Output;
  for (BufferId id = 0; id < program_.buffers.size(); ++id) {
    const BufferDecl& buffer = program_.buffers[id];
    const uint32_t ranks = buffer.output == Output::kNone   ? 0
                           : buffer.output == Output::kHost ? 1
                                                            : program_.num_ranks;
    for (uint32_t rank = 0; rank < ranks; rank += buffer.rank_stride) {
      uint32_t covered = 0;
      for (const Write& write : values_[uint64_t{rank} * program_.buffers.size() + id].writes) {
        if (write.begin == covered) covered = write.end;
      }
      bool held = true;
      for (uint32_t i = spans_[id].first; i < spans_[id].second; ++i) {
        held &= segment(rank, i).holder == id;
      }
      if (covered == buffer.extent && held) continue;
      return make_error(ErrorCode::kInvalidData,
                        "program '{}': the step ends without a complete '{}' on rank {}: element "
                        "{} of {}",
                        program_.name, buffer.name, rank, covered, buffer.extent);
    }
  }
  return {};
}

}  // namespace ultraspeed::program::internal
