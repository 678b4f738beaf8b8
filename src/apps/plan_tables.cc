// The tables of `ultraspeed plan`. GB is 10^9 bytes, as in data sheets.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "apps/plan_output.h"

namespace ultraspeed::apps {
namespace {

using plan::PlanReport;

template <class Bytes>
double gigabytes(Bytes bytes) {
  return static_cast<double>(bytes) / 1e9;
}

class Tables {
 public:
  explicit Tables(const PlanReport& report) : report_(report) {}

  std::string print() {
    heading();
    program();
    memory();
    cycle();
    predictions();
    return std::move(text_);
  }

 private:
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  void row(std::string_view name, uint64_t bytes, std::string_view note = "") {
    if (bytes > 0)
      line("  {:<22}{:>9.3f}{}{}", name, gigabytes(bytes), note.empty() ? "" : "  ", note);
  }

  void heading() {
    const model::ModelConfig& config = report_.config;
    const plan::ReportOptions& options = report_.options;
    const plan::Device& device = report_.device;
    line("model    {}: {}, {:.2f} B parameters, {:.2f} B active, {} layers", config.file,
         config.model_type, gigabytes(report_.parameters.total),
         gigabytes(report_.parameters.active), config.num_layers());
    if (report_.has_experts()) {
      line("         {} layers with {} experts, {} a token", report_.num_expert_layers,
           config.num_experts, config.num_experts_per_token);
    }
    line("device   {} x {}: {} SMs, {:.1f} GB, streams {:.2f} TB/s ({})", options.num_ranks,
         device.limits.name, device.limits.num_workers, gigabytes(device.limits.memory_bytes),
         device.streaming_bandwidth() / 1e12,
         device.is_measured()
             ? fmt::format("measured; data sheet {:.2f}", device.limits.memory_bandwidth / 1e12)
             : fmt::format("not measured: {:.0f} % of the data sheet's {:.2f}",
                           100 * plan::kAssumedStreamingShare,
                           device.limits.memory_bandwidth / 1e12));
    line("step     {} columns of one sequence, context {}, KV {}, o_proj, head and router {}",
         options.width, options.context, options.kv_format == plan::KvFormat::kFp8 ? "FP8" : "BF16",
         options.dense_format == plan::DenseFormat::kFp8 ? "re-quantised to FP8"
                                                         : "as in the checkpoint");
  }

  // Of a column about experts, which a model without them has not.
  std::string expert_cell(std::string_view text) const {
    return report_.has_experts() ? fmt::format("{:>12}", text) : std::string();
  }

  void program() {
    const plan::ProgramCounts& counts = report_.program;
    line("\nProgram of one step: planned in {:.2f} s, verified in {:.2f} s", counts.plan_seconds,
         counts.verify_seconds);
    line("  tasks {}, dependencies {}, cross-rank signals {} (all ranks)", counts.num_tasks,
         counts.num_waits, counts.num_cross_rank_signals);
    line("  stages {}, counters {}, flags {} (a rank)", counts.num_stages, counts.num_counters,
         counts.num_flags);
    std::map<uint32_t, uint32_t> layers;  // by hops
    for (const uint32_t hops : counts.hops_per_layer) ++layers[hops];
    std::string kinds;
    for (const auto& [hops, count] : layers) {
      kinds += fmt::format("{}{} x {}", kinds.empty() ? "" : " + ", count, hops);
    }
    line("  critical path {} hops; layers x hops: {}", counts.critical_path_hops, kinds);
  }

  std::string_view busiest() const {
    const bool all_alike = report_.node.at(1) == report_.cycle.at(1) * report_.options.num_ranks;
    return all_alike ? "a GPU" : "the GPU of rank 0, which has a share of everything";
  }

  void memory() {
    const plan::MemoryBytes& memory = report_.memory;
    line("\nMemory of {}, GB", busiest());
    for (size_t i = 0; i < plan::kNumWeightGroups; ++i) {
      const auto group = static_cast<plan::WeightGroup>(i);
      row(plan::weight_group_name(group), report_.group(group).stored);
    }
    row("all weights", memory.weights);
    row("padding of tiles", memory.block_padding);
    row("activations", memory.activations);
    row("task lists", memory.task_lists);
    row("KV, full layers", memory.kv_pages, "one sequence at the context");
    row("KV, sliding layers", memory.kv_rings);
    row("drafter", memory.drafter_weights + memory.drafter_kv, "BF16, with its context");
    row("reserved", memory.reserved, "CUDA context, communication");
    const double capacity = gigabytes(report_.device.limits.memory_bytes);
    const double total = gigabytes(memory.total());
    line("  {:<22}{:>9.3f}  of {:.1f}: {} {:.1f}", "total", total, capacity,
         report_.fits() ? "fits, leaves" : "DOES NOT FIT, lacks", std::abs(capacity - total));
  }

  void cycle() {
    const plan::CycleBytes& bytes = report_.cycle;
    line("\nRead in one cycle by {}, GB", busiest());
    for (size_t i = 0; i < plan::kNumWeightGroups; ++i) {
      const auto group = static_cast<plan::WeightGroup>(i);
      const plan::GroupBytes& sum = report_.group(group);
      if (group == plan::WeightGroup::kExperts) continue;
      row(plan::weight_group_name(group), sum.read,
          sum.scales > 0 ? fmt::format("scales {:.3f}", gigabytes(sum.scales)) : "");
    }
    row(report_.has_experts() ? "non-expert weights" : "all weights", bytes.non_expert);
    row("one live expert", bytes.per_live_expert, "in every expert layer");
    row("KV", bytes.kv);
    row("drafter", bytes.drafter);
    row("head for the draft", bytes.drafter_head);
    line("\n  {}{}{:>14}{:>12}{:>12}{:>11}", expert_cell("live experts"), expert_cell("experts"),
         "all weights", "cycle", "all GPUs", "floor, ms");
    for (const double live : plan::live_expert_cases(report_)) {
      const double experts = gigabytes(live * static_cast<double>(bytes.per_live_expert));
      line("  {}{}{:>14.3f}{:>12.3f}{:>12.1f}{:>11.3f}", expert_cell(fmt::format("{:.1f}", live)),
           expert_cell(fmt::format("{:.3f}", experts)), gigabytes(bytes.weights_at(live)),
           gigabytes(bytes.at(live)), gigabytes(report_.node.at(live)),
           1e3 * plan::cycle_seconds(report_, live, 0));
    }
    if (report_.has_experts()) {
      line("  {:.1f} is the expectation if tokens were routed independently",
           report_.expected_live_experts);
    }
  }

  void predictions() {
    line("\nPredicted tokens per second at {:.2f} / {:.2f} / {:.2f} accepted tokens a cycle",
         plan::kAcceptedLengths[0], plan::kAcceptedLengths[1], plan::kAcceptedLengths[2]);
    std::string names = "  " + expert_cell("live experts");
    for (const double us : plan::kUsPerHop) {
      names += fmt::format("{:>22}", us == 0 ? "floor" : fmt::format("{:.1f} us a hop", us));
    }
    line("{}", names);
    for (const double live : plan::live_expert_cases(report_)) {
      std::string cells;
      for (const double us : plan::kUsPerHop) {
        const double seconds = plan::cycle_seconds(report_, live, us);
        std::string speeds;
        for (const double accepted : plan::kAcceptedLengths) {
          speeds += fmt::format("{}{:.0f}", speeds.empty() ? "" : " / ", accepted / seconds);
        }
        cells += fmt::format("{:>22}", speeds);
      }
      line("  {}{}", expert_cell(fmt::format("{:.1f}", live)), cells);
    }
    assumptions();
  }

  void assumptions() {
    const plan::ProgramCounts& counts = report_.program;
    line("\nCycle time = bytes / {:.2f} TB/s + {} hops x cost of a hop ({} of the step, {} of the",
         report_.device.streaming_bandwidth() / 1e12,
         counts.critical_path_hops + counts.drafter_hops, counts.critical_path_hops,
         counts.drafter_hops);
    line(
        "drafter, estimated). Every hop is charged as a grid-wide hand-off under load, measured "
        "at");
    line("1.3 to 2.6 us on an H200; arithmetic, attention and links between GPUs are not charged.");
    if (!report_.has_drafter) line("No dflash/config.json: a drafter is not charged.");
    line("Every byte is read once, by one GPU, from its memory. See docs/decode_bound.md.");
  }

  const PlanReport& report_;
  std::string text_;
};

}  // namespace

std::string plan_tables(const PlanReport& report) {
  return Tables(report).print();
}

}  // namespace ultraspeed::apps
