#include "apps/step_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "apps/executor_choice.h"
#include "plan/report.h"

namespace ultraspeed::apps {
namespace {

std::vector<OpFigures> op_figures(const cuda::StepBench& bench) {
  std::array<OpFigures, program::kNumOpcodes> by_opcode;
  for (const cuda::StageSamples& stage : bench.stages) {
    OpFigures& op = by_opcode[static_cast<size_t>(stage.opcode)];
    op.opcode = stage.opcode;
    op.count += stage.count;
    op.reading.us += stage.count * spread_of(stage.us).median;
    op.reading.bytes += stage.count * stage.bytes;
  }
  std::vector<OpFigures> ops;
  for (OpFigures& op : by_opcode) {
    if (op.count == 0) continue;
    op.reading = reading_of(op.reading.bytes, op.reading.us, bench);
    ops.push_back(op);
  }
  return ops;
}

// us, MB, GB/s and of ceiling.
void add_cells(const Reading& reading, std::vector<std::string>* row) {
  row->push_back(fmt::format("{:.1f}", reading.us));
  row->push_back(fmt::format("{:.1f}", static_cast<double>(reading.bytes) / 1e6));
  const bool reads = reading.bytes > 0;
  row->push_back(reads ? fmt::format("{:.0f}", reading.gb_s) : "");
  row->push_back(reads ? percent(reading.of_ceiling) : "");
}

// A line for each kind of stages that runs as a general loop.
std::vector<std::string> general_notes(const cuda::StepBench& bench) {
  std::vector<std::string> notes;
  for (const cuda::StageSamples& stage : bench.stages) {
    if (stage.general_reason.empty()) continue;
    std::string note = fmt::format("{}: a general loop, no kernel of its own: {}", stage.name,
                                   stage.general_reason);
    if (std::ranges::find(notes, note) == notes.end()) notes.push_back(std::move(note));
  }
  return notes;
}

}  // namespace

std::vector<std::pair<double, double>> token_rates(const StepRun& run, double step_us) {
  std::vector<double> lengths = {1};
  lengths.insert(lengths.end(), plan::kAcceptedLengths.begin(), plan::kAcceptedLengths.end());
  std::vector<std::pair<double, double>> rates;
  for (const double length : lengths) {
    if (length <= run.rows) rates.emplace_back(length, 1e6 * length / step_us);
  }
  return rates;
}

std::string rates_text(const std::vector<std::pair<double, double>>& rates) {
  std::string text;
  for (const auto& [length, rate] : rates) {
    text += fmt::format("{}{:.1f} at {:.2f}", text.empty() ? "" : ", ", rate, length);
  }
  return "tokens a second by the tokens that a step is accepted for: " + text;
}

Reading reading_of(uint64_t bytes, double us, const cuda::MeasuredGpu& gpu) {
  Reading reading{bytes, us, 0, 0};
  if (bytes > 0) {
    reading.gb_s = gb_per_second(bytes, us);
    reading.of_ceiling = reading.gb_s / ceiling_figures(gpu).gb_s;
  }
  return reading;
}

Reading stage_reading(const cuda::StageSamples& stage, const cuda::MeasuredGpu& gpu) {
  return reading_of(stage.bytes, spread_of(stage.us).median, gpu);
}

StepFigures step_figures(const StepRun& run) {
  StepFigures figures;
  figures.us = spread_of(run.bench.step_us);
  figures.ops = op_figures(run.bench);
  uint64_t bytes = 0;
  for (const OpFigures& op : figures.ops) {
    bytes += op.reading.bytes;
    figures.sum_us += op.reading.us;
  }
  for (OpFigures& op : figures.ops) op.share = op.reading.us / figures.sum_us;
  figures.reading = reading_of(bytes, figures.us.median, run.bench);
  figures.of_sum = figures.us.median / figures.sum_us;
  figures.tokens_per_second = token_rates(run, figures.us.median);
  return figures;
}

std::string describe_step(const StepRun& run) {
  return fmt::format("{}, after {} positions, {}", describe_shape(run), run.positions,
                     mode_text({run.activations, run.kv_cache, model::DenseDtype::kCheckpoint}));
}

TextTable step_table(const StepRun& run) {
  TextTable table;
  table.head = {"operation", "stages",     "us a stage", "us",  "MB",
                "GB/s",      "of ceiling", "of sum",     "p10", "p90"};
  const CeilingFigures ceiling = ceiling_figures(run.bench);
  std::vector<std::string> row = {"ceiling", "", ""};
  add_cells(reading_of(run.bench.ceiling_bytes, ceiling.us.median, run.bench), &row);
  row.insert(row.end(),
             {"", fmt::format("{:.1f}", ceiling.us.p10), fmt::format("{:.1f}", ceiling.us.p90)});
  table.rows.push_back(std::move(row));
  const StepFigures figures = step_figures(run);
  for (const OpFigures& op : figures.ops) {
    row = {std::string(program::opcode_name(op.opcode)), fmt::format("{}", op.count),
           fmt::format("{:.2f}", op.reading.us / op.count)};
    add_cells(op.reading, &row);
    row.insert(row.end(), {percent(op.share), "", ""});
    table.rows.push_back(std::move(row));
  }
  row = {"sum", "", ""};
  add_cells(reading_of(figures.reading.bytes, figures.sum_us, run.bench), &row);
  row.insert(row.end(), {percent(1), "", ""});
  table.rows.push_back(std::move(row));
  row = {"step", "", ""};
  add_cells(figures.reading, &row);
  row.insert(row.end(), {percent(figures.of_sum), fmt::format("{:.1f}", figures.us.p10),
                         fmt::format("{:.1f}", figures.us.p90)});
  table.rows.push_back(std::move(row));
  return table;
}

std::vector<std::string> step_notes(const StepRun& run) {
  const StepFigures figures = step_figures(run);
  std::vector<std::string> notes = {
      rates_text(figures.tokens_per_second),
      fmt::format("medians of {} graphs; in memory {}", run.bench.step_us.size(), run.bench.data),
      "an operation's stages are timed by themselves, one behind the other; in the step they "
      "overlap with those of other operations, so that the step is not their sum",
      run.all_reduce_ns == 0
          ? "one rank alone: what it would send to others it writes into its own memory, and it "
            "waits for nobody"
          : fmt::format("one rank alone: what it would send to others it writes into its own "
                        "memory, and waits {} us in place of what they would send",
                        run.all_reduce_ns * 1e-3)};
  if (!run.bench.draft_us.empty()) {
    const Spread draft = spread_of(run.bench.draft_us);
    notes.push_back(fmt::format(
        "the drafter's part, by itself behind reads of other memory: {:.1f} us ({:.1f} to {:.1f})",
        draft.median, draft.p10, draft.p90));
  }
  if (!run.bench.live.empty()) {
    const auto [least, most] = std::ranges::minmax(run.bench.live);
    notes.push_back(
        fmt::format("experts by the step's own routes: {} to {} of a layer, {:.1f} on average",
                    least, most, run.bench.mean_live()));
  }
  for (std::string& note : general_notes(run.bench)) notes.push_back(std::move(note));
  return notes;
}

std::string step_text(const StepRun& run) {
  std::string text =
      fmt::format("{}\n{}\n{}\n\n{}", describe_gpu(run.bench.gpu), describe_step(run),
                  verdict(run.bench), plain_table(step_table(run)));
  for (const std::string& note : step_notes(run)) text += note + "\n";
  return text;
}

}  // namespace ultraspeed::apps
