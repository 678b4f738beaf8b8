#include "program/order_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "program/access.h"
#include "program/print.h"

namespace ultraspeed::test {
namespace {

using program::Access;
using program::BufferDecl;
using program::Program;
using program::SignalKind;
using program::SignalScope;
using program::Task;
using program::WaitKind;

using Node = uint32_t;  // one unit of one task, or the end of a loop's

// One access, from the first unit that may do it to the last.
struct Use {
  Node first = 0, last = 0;
  uint32_t begin = 0, end = 0;
  bool is_write = false;
};

class Graph {
 public:
  explicit Graph(const Program& program) : program_(program) {}

  std::optional<std::string> check() {
    add_nodes();
    if (auto what = add_edges()) return what;
    if (!close()) return "a cycle: the program cannot end";
    collect_uses();
    for (uint32_t rank = 0; rank < program_.num_ranks; ++rank) {
      for (uint32_t id = 0; id < program_.buffers.size(); ++id) {
        if (auto what = check_value(rank, id)) return what;
        for (uint32_t other = id + 1; other < program_.buffers.size(); ++other) {
          if (auto what = check_sharing(rank, id, other)) return what;
        }
      }
    }
    return std::nullopt;
  }

 private:
  struct TaskNodes {
    uint32_t rank = 0;
    const Task* task = nullptr;
    Node first = 0, last = 0;
    uint32_t units = 0;  // of a loop over experts; other tasks have one node
    uint32_t list = 0;
    size_t index = 0;
  };

  // After its units, whose flags do not say that a task is over.
  static bool has_end(const Task& task) { return task.signal.kind == SignalKind::kSlot; }

  void add_nodes() {
    for (uint32_t list = 0; list < program_.lists.size(); ++list) {
      for (size_t index = 0; index < program_.lists[list].size(); ++index) {
        const Task& task = program_.lists[list][index];
        const uint32_t units = program::task_max_units(program_, task);
        TaskNodes nodes{list / program_.num_workers, &task, num_nodes_, 0, units, list, index};
        num_nodes_ += std::max(units, 1u);  // without units it still takes its turn
        if (has_end(task)) ++num_nodes_;
        nodes.last = num_nodes_ - 1;
        tasks_.push_back(nodes);
      }
    }
    before_.resize(num_nodes_);
  }

  // Everybody who adds to a counter of a rank, and who sets a flag.
  void collect_signals() {
    for (const TaskNodes& nodes : tasks_) {
      const program::Signal& signal = nodes.task->signal;
      if (signal.kind == SignalKind::kSlot) {
        for (uint32_t u = 0; u < nodes.units; ++u) {
          const uint32_t flag = signal.id + nodes.task->row_begin + u * nodes.task->part;
          setters_[{nodes.rank, flag}].push_back(nodes.first + u);
        }
      } else if (signal.kind == SignalKind::kCounter) {
        for (uint32_t rank = 0; rank < program_.num_ranks; ++rank) {
          const bool is_meant = signal.scope == SignalScope::kAllRanks ||
                                (signal.scope == SignalScope::kLocal && rank == nodes.rank) ||
                                (signal.scope == SignalScope::kOneRank && rank == signal.rank);
          if (is_meant) adders_[{rank, signal.id}].push_back(nodes.last);
        }
      }
    }
  }

  std::optional<std::string> add_edges() {
    collect_signals();
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const TaskNodes& nodes = tasks_[i];
      if (nodes.index > 0) before_[nodes.first].push_back(tasks_[i - 1].last);
      for (Node node = nodes.first; node < nodes.last; ++node) before_[node + 1].push_back(node);
      for (const program::Wait& wait : nodes.task->waits) {
        if (wait.kind == WaitKind::kCounter) {
          const auto& adders = adders_[{nodes.rank, wait.id}];
          // Of fewer than all, nobody can say which came; more never come.
          if (adders.size() != wait.need) return place(nodes) + ": threshold";
          before_[nodes.first].insert(before_[nodes.first].end(), adders.begin(), adders.end());
        } else if (wait.kind == WaitKind::kSlot) {
          if (auto what = add_slot_edges(nodes, wait)) return what;
        }
      }
    }
    return std::nullopt;
  }

  std::optional<std::string> add_slot_edges(const TaskNodes& nodes, const program::Wait& wait) {
    for (uint32_t u = 0; u < nodes.units; ++u) {
      for (uint32_t flag = wait.id + u * wait.need; flag < wait.id + (u + 1) * wait.need; ++flag) {
        const auto& setters = setters_[{nodes.rank, flag}];
        if (setters.size() != 1) return fmt::format("{}: flag {}", place(nodes), flag);
        before_[nodes.first + u].push_back(setters[0]);
      }
    }
    return std::nullopt;
  }

  // Fills reached_from_. False when there is a cycle.
  bool close() {
    std::vector<std::vector<Node>> after(num_nodes_);
    std::vector<size_t> missing(num_nodes_);
    std::vector<Node> ready;
    for (Node node = 0; node < num_nodes_; ++node) {
      missing[node] = before_[node].size();
      if (missing[node] == 0) ready.push_back(node);
      for (const Node former : before_[node]) after[former].push_back(node);
    }
    reached_from_.assign(num_nodes_, std::vector<uint64_t>((num_nodes_ + 63) / 64, 0));
    size_t done = 0;
    while (!ready.empty()) {
      const Node node = ready.back();
      ready.pop_back();
      ++done;
      std::vector<uint64_t>& row = reached_from_[node];
      for (const Node former : before_[node]) {
        row[former / 64] |= uint64_t{1} << (former % 64);
        for (size_t i = 0; i < row.size(); ++i) row[i] |= reached_from_[former][i];
      }
      for (const Node next : after[node]) {
        if (--missing[next] == 0) ready.push_back(next);
      }
    }
    return done == num_nodes_;
  }

  bool is_before(const Use& a, const Use& b) const {
    return (reached_from_[b.first][a.last / 64] >> (a.last % 64) & 1) != 0;
  }

  void collect_uses() {
    uses_.resize(uint64_t{program_.num_ranks} * program_.buffers.size());
    std::vector<Access> accesses;
    for (const TaskNodes& nodes : tasks_) {
      program::task_accesses(program_, nodes.rank, *nodes.task, &accesses);
      const auto* up =
          std::get_if<program::ExpertGateUpOperands>(&program_.stages[nodes.task->stage].operands);
      uint32_t unit = 0;
      for (const Access& access : accesses) {
        auto& uses = uses_of(access.rank, access.buffer);
        if (access.per_unit) {
          add_slot_reads(nodes, access);
        } else if (up != nullptr && access.is_write) {  // each unit writes its own
          const Node node = nodes.first + unit++;
          uses.push_back({node, node, access.begin, access.end, true});
        } else {
          const bool ends_with_units = up != nullptr && has_end(*nodes.task) && !access.of_bounds;
          const Node last = ends_with_units ? nodes.last - 1 : nodes.last;
          uses.push_back({nodes.first, last, access.begin, access.end, access.is_write});
        }
      }
    }
  }

  // ExpertDown reads the activations of a slot in that slot's unit.
  void add_slot_reads(const TaskNodes& nodes, const Access& access) {
    const uint32_t groups = program_.buffers[access.buffer].extent / nodes.units;
    for (uint32_t u = 0; u < nodes.units; ++u) {
      const Node node = nodes.first + u;
      uses_of(access.rank, access.buffer).push_back({node, node, u * groups, (u + 1) * groups});
    }
  }

  std::vector<Use>& uses_of(uint32_t rank, uint32_t buffer) {
    return uses_[uint64_t{rank} * program_.buffers.size() + buffer];
  }

  // Each element is written once, and before every read.
  std::optional<std::string> check_value(uint32_t rank, uint32_t id) {
    const BufferDecl& buffer = program_.buffers[id];
    const auto fail = [&](uint32_t element, const char* what) {
      return fmt::format("rank {} '{}' element {}: {}", rank, buffer.name, element, what);
    };
    const bool is_output = (buffer.output == BufferDecl::Output::kCache &&
                            program::has_share(rank, buffer.rank_stride)) ||
                           (buffer.output == BufferDecl::Output::kHost && rank == 0);
    // Between two ends of accesses all elements are alike.
    std::set<uint32_t> elements = {0};
    for (const Use& use : uses_of(rank, id)) elements.insert({use.begin, use.end});
    elements.erase(elements.lower_bound(buffer.extent), elements.end());
    for (const uint32_t element : elements) {
      const Use* writer = nullptr;
      for (const Use& use : uses_of(rank, id)) {
        if (!use.is_write || element < use.begin || element >= use.end) continue;
        if (writer != nullptr) return fail(element, "written twice");
        writer = &use;
      }
      if (is_output && writer == nullptr) return fail(element, "an output that nobody writes");
      for (const Use& use : uses_of(rank, id)) {
        if (use.is_write || element < use.begin || element >= use.end) continue;
        if (writer == nullptr) return fail(element, "read but never written");
        if (!is_before(*writer, use)) return fail(element, "read before its write");
      }
    }
    return std::nullopt;
  }

  // Two values in the same bytes: one is done with before the other begins; an output comes last.
  std::optional<std::string> check_sharing(uint32_t rank, uint32_t a, uint32_t b) {
    const BufferDecl& x = program_.buffers[a];
    const BufferDecl& y = program_.buffers[b];
    const uint64_t begin = std::max(x.offset_bytes, y.offset_bytes);
    const uint64_t end = std::min(x.offset_bytes + x.size_bytes, y.offset_bytes + y.size_bytes);
    if (begin >= end || uses_of(rank, a).empty() || uses_of(rank, b).empty()) return std::nullopt;
    const bool x_first = x.output == BufferDecl::Output::kNone && all_before(rank, a, b);
    const bool y_first = y.output == BufferDecl::Output::kNone && all_before(rank, b, a);
    if (x_first || y_first) return std::nullopt;
    return fmt::format("rank {}: '{}' and '{}' share memory at once", rank, x.name, y.name);
  }

  bool all_before(uint32_t rank, uint32_t former, uint32_t latter) {
    for (const Use& use : uses_of(rank, former)) {
      for (const Use& next : uses_of(rank, latter)) {
        if (next.is_write && !is_before(use, next)) return false;
      }
    }
    return true;
  }

  std::string place(const TaskNodes& nodes) const {
    return program::task_location(program_, nodes.rank, nodes.list % program_.num_workers,
                                  nodes.index);
  }

  const Program& program_;
  std::vector<TaskNodes> tasks_;  // in list order
  Node num_nodes_ = 0;
  std::vector<std::vector<Node>> before_;                               // direct predecessors
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Node>> adders_;   // by rank, counter
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Node>> setters_;  // by rank, flag
  std::vector<std::vector<uint64_t>> reached_from_;  // [node]: a bit for each node before it
  std::vector<std::vector<Use>> uses_;               // [rank, buffer]
};

}  // namespace

std::optional<std::string> find_disorder(const Program& program) {
  return Graph(program).check();
}

}  // namespace ultraspeed::test
