// Activation memory: first fit over the values' lives in stage order.
#include <algorithm>
#include <numeric>
#include <variant>

#include "plan/draft.h"
#include "program/access.h"

namespace ultraspeed::plan {
namespace {

using program::BufferDecl;
using program::BufferId;
using program::Program;

struct Life {
  uint32_t first = program::kNoId;  // stage that writes it
  uint32_t last = 0;                // last stage that touches it
};

// Stages of one layer overlap in time and ranks run ahead of each other, so a value keeps its
// memory for this many stages after its last use; verify() proves that it suffices.
constexpr uint32_t kSlackStages = 6;

// Route tables share their memory with nothing: a worker without units of a loop over live experts
// reads there that it has none when it comes to it, and nobody waits for that.
std::vector<Life> lives(const Program& program) {
  std::vector<Life> result(program.buffers.size());
  for (uint32_t stage = 0; stage < program.stages.size(); ++stage) {
    for (const BufferId id : program::stage_references(program.stages[stage].operands).buffers) {
      result[id].first = std::min(result[id].first, stage);
      result[id].last = std::max(result[id].last, stage);
    }
  }
  const auto num_stages = static_cast<uint32_t>(program.stages.size());
  for (const program::Stage& stage : program.stages) {
    const auto* loop = std::get_if<program::ExpertGateUpOperands>(&stage.operands);
    if (loop != nullptr) result[loop->route] = {0, num_stages};
  }
  for (BufferId id = 0; id < result.size(); ++id) {
    const bool kept = program.buffers[id].output != BufferDecl::Output::kNone;
    result[id].last = kept ? num_stages : result[id].last + kSlackStages;
  }
  return result;
}

uint64_t align(uint64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// The lowest offset at which `size` bytes overlap none of the placed neighbours.
uint64_t first_fit(std::vector<std::pair<uint64_t, uint64_t>> taken, uint64_t size) {
  std::sort(taken.begin(), taken.end());
  uint64_t offset = 0;
  for (const auto& [begin, end] : taken) {
    if (offset + size <= begin) break;
    offset = std::max(offset, end);
  }
  return offset;
}

// Those that live for the whole step first, side by side: between others they would cut the memory
// of these into pieces, of which each costs time to verify.
std::vector<BufferId> placing_order(const std::vector<Life>& life, uint32_t num_stages) {
  std::vector<BufferId> order(life.size());
  std::iota(order.begin(), order.end(), BufferId{0});
  std::stable_partition(order.begin(), order.end(), [&](BufferId id) {
    return life[id].first == 0 && life[id].last >= num_stages;
  });
  return order;
}

}  // namespace

void plan_memory(Draft* draft) {
  Program& program = draft->program;
  const std::vector<Life> life = lives(program);
  std::vector<BufferId> done;
  for (const BufferId id : placing_order(life, static_cast<uint32_t>(program.stages.size()))) {
    BufferDecl& buffer = program.buffers[id];
    if (buffer.size_bytes == 0) continue;
    std::vector<std::pair<uint64_t, uint64_t>> taken;
    for (const BufferId other : done) {
      const BufferDecl& placed = program.buffers[other];
      if (life[other].last < life[id].first || life[id].last < life[other].first) continue;
      taken.emplace_back(placed.offset_bytes, placed.offset_bytes + align(placed.size_bytes));
    }
    buffer.offset_bytes = first_fit(std::move(taken), align(buffer.size_bytes));
    program.arena_bytes =
        std::max(program.arena_bytes, buffer.offset_bytes + align(buffer.size_bytes));
    done.push_back(id);
  }
}

}  // namespace ultraspeed::plan
