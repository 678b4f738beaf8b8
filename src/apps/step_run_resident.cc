// What `bench step --resident` says of the kernels that stay.
#include <fmt/format.h>

#include <algorithm>

#include "apps/perfetto.h"
#include "apps/step_run.h"

namespace ultraspeed::apps {
namespace {

TextTable phase_table(const cuda::PhaseBench& bench) {
  TextTable table;
  table.head = {"phase",           "phases", "span us", "hand-off us", "slowest hand-off us",
                "longest task us", "us"};
  for (const cuda::PhaseRow& row : bench.rows) {
    table.rows.push_back(
        {row.name, std::to_string(row.count), fmt::format("{:.2f}", row.span_us),
         fmt::format("{:.2f}", row.hand_off_us), fmt::format("{:.2f}", row.slowest_hand_off_us),
         fmt::format("{:.2f}", row.longest_us), fmt::format("{:.1f}", row.count * row.span_us)});
  }
  return table;
}

// Of the step's time, what reading its bytes at the ceiling would not take.
std::string idle_text(const StepRun& run, double resident_us) {
  const StepFigures figures = step_figures(run);
  const Reading reading = reading_of(figures.reading.bytes, resident_us, run.bench);
  const auto attention =
      std::ranges::find(figures.ops, program::Opcode::kAttention, &OpFigures::opcode);
  const uint32_t num_layers = attention == figures.ops.end() ? 1 : attention->count;
  const double idle_us = resident_us * (1 - reading.of_ceiling);
  return fmt::format(
      "{:.1f} % of the ceiling: memory idles for {:.1f} us of a step, {:.1f} us a layer, if it "
      "otherwise reads at the ceiling\n",
      100 * reading.of_ceiling, idle_us, idle_us / num_layers);
}

}  // namespace

std::string resident_text(const StepRun& run) {
  const cuda::PhaseBench& bench = *run.bench.resident;
  const double resident = spread_of(bench.resident_us).median;
  const double graph = spread_of(bench.graph_us).median;
  std::string text = fmt::format(
      "\nkernels that stay, {} CTAs that stream, {} with units, {} with stages: {:.1f} us a step; "
      "a graph of the same stages {:.1f} us, {:.3f} times as long\n",
      bench.ctas.streaming, bench.ctas.of_units, bench.ctas.of_stages, resident, graph,
      graph / resident);
  for (const std::string& why : bench.left_out) text += fmt::format("both without: {}\n", why);
  text += bench.different_floats == 0
              ? "both leave the same bits in all buffers\n"
              : fmt::format("THEY DIFFER in {} numbers of all buffers\n", bench.different_floats);
  if (bench.left_out.empty()) {
    text += idle_text(run, resident) + rates_text(token_rates(run, resident)) + "\n";
  }
  return text + "\n" + plain_table(phase_table(bench)) +
         "a span goes from the end of the phase before to a phase's own; means of one step\n";
}

std::string resident_trace(const cuda::PhaseBench& bench) {
  const uint32_t first_unit = bench.ctas.streaming;
  const uint32_t first_stage = first_unit + bench.ctas.of_units;
  const auto track_of = [&](uint32_t cta) -> PerfettoTrace::Track {
    return {cta < first_unit ? 0u : cta < first_stage ? 1u : 2u, cta};
  };
  PerfettoTrace trace;
  trace.name_process(0, "pages");
  trace.name_process(1, "units");
  trace.name_process(2, "stages");
  for (uint32_t cta = 0; cta < bench.ctas.all(); ++cta) {
    trace.name_track(track_of(cta), fmt::format("CTA {}", cta));
  }
  for (const cuda::PhaseTask& task : bench.tasks) {
    trace.add(track_of(task.cta), bench.rows[task.row].name, fmt::format("phase {}", task.phase),
              static_cast<double>(task.begin_ns) * 1e-3,
              static_cast<double>(task.end_ns - task.begin_ns) * 1e-3);
  }
  return trace.json();
}

}  // namespace ultraspeed::apps
