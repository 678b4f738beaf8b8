#include "cuda/bench/phase_bench.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "cuda/bench/step_machine.h"
#include "cuda/bench/timed_graph.h"
#include "cuda/device.h"
#include "cuda/resident/phase_recorder.h"
#include "cuda/resident/phase_runner.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kFewSteps = 4, kManySteps = 24;  // of launches whose times are subtracted
constexpr uint32_t kSamples = 11;
constexpr uint32_t kComparedSteps = 10;
constexpr std::chrono::seconds kDeadline(2);

// Of all CTAs that take part in a phase.
struct PhaseSpan {
  uint64_t last_begin = 0, end = 0;
  double longest_us = 0;
};
std::optional<PhaseSpan> span_of(std::span<const PhaseTime> times) {
  PhaseSpan span;
  for (const PhaseTime& time : times) {
    if (time.end == 0) continue;
    span.last_begin = std::max(span.last_begin, time.begin);
    span.end = std::max(span.end, time.end);
    span.longest_us = std::max(span.longest_us, static_cast<double>(time.end - time.begin) * 1e-3);
  }
  if (span.end == 0) return std::nullopt;
  return span;
}

double us_between(uint64_t begin, uint64_t end) {
  return static_cast<double>(static_cast<int64_t>(end - begin)) * 1e-3;
}

std::vector<PhaseRow> rows_of(const std::vector<Phase>& phases, std::span<const PhaseTime> times,
                              uint32_t num_ctas) {
  std::vector<PhaseRow> rows;
  uint64_t before = 0;
  for (size_t i = 0; i < phases.size(); ++i) {
    const auto span = span_of(times.subspan(i * num_ctas, num_ctas));
    if (!span) continue;
    const std::string name = phase_name(phases[i]);
    auto row = std::ranges::find(rows, name, &PhaseRow::name);
    if (row == rows.end()) row = rows.insert(rows.end(), {name});
    if (before != 0) {
      ++row->count;
      row->span_us += us_between(before, span->end);
      const double hand_off_us = us_between(before, span->last_begin);
      row->hand_off_us += hand_off_us;
      row->slowest_hand_off_us = std::max(row->slowest_hand_off_us, hand_off_us);
      row->longest_us += span->longest_us;
    }
    before = std::max(before, span->end);
  }
  for (PhaseRow& row : rows) {
    const double count = std::max(row.count, 1u);
    row.span_us /= count;
    row.hand_off_us /= count;
    row.longest_us /= count;
  }
  return rows;
}

std::vector<PhaseTask> tasks_of(const std::vector<Phase>& phases, std::span<const PhaseTime> times,
                                const PhaseBench& bench) {
  std::vector<PhaseTask> tasks;
  uint64_t first = ~uint64_t{0};
  for (const PhaseTime& time : times) {
    if (time.end != 0) first = std::min(first, time.begin);
  }
  const uint32_t num_ctas = bench.ctas.all();
  for (uint32_t i = 0; i < phases.size(); ++i) {
    const auto row = std::ranges::find(bench.rows, phase_name(phases[i]), &PhaseRow::name);
    for (uint32_t cta = 0; cta < num_ctas; ++cta) {
      const PhaseTime& time = times[uint64_t{i} * num_ctas + cta];
      if (time.end == 0) continue;
      tasks.push_back({static_cast<uint32_t>(row - bench.rows.begin()), i, cta, time.begin - first,
                       time.end - first});
    }
  }
  return tasks;
}

class PhaseMeasurement {
 public:
  PhaseMeasurement(const StepMachine& machine, cudaStream_t stream)
      : machine_(machine), stream_(stream) {}

  Result<PhaseBench> run(const std::vector<uint32_t>& stages) {
    US_TRY(record(stages));
    US_ASSIGN(runner_, make_runner(false));
    US_TRY(compare());
    US_TRY(measure_resident());
    US_TRY(measure_graph());
    US_TRY(trace());
    return std::move(bench_);
  }

 private:
  Result<PhaseRunner> make_runner(bool is_timed) const {
    PhaseOptions options;
    options.deadline = kDeadline;
    options.is_timed = is_timed;
    return PhaseRunner::make({phases_}, bench_.ctas, machine_.machine().view(),
                             machine_.step_view(), options);
  }

  // So many steps while the kernels stay; microseconds on the device's clock.
  static Result<double> run_steps(PhaseRunner& runner, uint32_t num_steps) {
    US_TRY(runner.start());
    US_TRY(runner.run(0, num_steps, {}));
    return static_cast<double>(runner.times().end - runner.times().begin) * 1e-3;
  }

  // Stages that have a phase go to kept_.
  Status record(const std::vector<uint32_t>& stages) {
    US_TRY(cuda_status(count_phase_ctas(other_ctas(machine_.program()), &bench_.ctas),
                       "asking how many CTAs run at once"));
    PhaseRecorder recorder(machine_.machine(), 0, bench_.ctas);
    US_TRY(cuda_status(machine_.begin_step(recorder), "recording a step's columns"));
    for (const uint32_t stage : stages) {
      recorder.begin_stage();
      const cudaError_t error = machine_.launch(stage, false, recorder);
      if (error == cudaErrorNotSupported) {
        bench_.left_out.insert(recorder.limit());
        recorder.drop_stage();
        continue;
      }
      US_TRY(cuda_status(error, "recording phases"));
      kept_.push_back(stage);
    }
    phases_ = recorder.finish();
    bench_.num_phases = static_cast<uint32_t>(phases_.size());
    return {};
  }

  Status launch_kept(KernelSink& sink) const {
    US_TRY(cuda_status(machine_.begin_step(sink), "launching a step's columns"));
    for (const uint32_t stage : kept_) {
      US_TRY(cuda_status(machine_.launch(stage, false, sink), "launching a stage"));
    }
    return {};
  }

  Result<std::vector<uint32_t>> buffers() const {
    std::vector<uint32_t> words(machine_.arena_size_bytes() / sizeof(uint32_t));
    US_TRY(cuda_status(
        cudaMemcpy(words.data(), arena(), machine_.arena_size_bytes(), cudaMemcpyDeviceToHost),
        "reading buffers"));
    return words;
  }
  float* arena() const { return machine_.machine().view().ranks[0].arena; }

  // Steps of the graph's kernels, and as many of the resident one, from the same buffers:
  // what is left out leaves there what others write, so that steps differ.
  Status compare() {
    US_ASSIGN(const std::vector<uint32_t> before, buffers());
    StreamSink sink(stream_);
    for (uint32_t i = 0; i < kComparedSteps; ++i) US_TRY(launch_kept(sink));
    US_TRY(cuda_status(cudaStreamSynchronize(stream_), "running a step"));
    US_ASSIGN(const std::vector<uint32_t> expected, buffers());
    US_TRY(cuda_status(
        cudaMemcpy(arena(), before.data(), machine_.arena_size_bytes(), cudaMemcpyHostToDevice),
        "writing buffers"));
    US_TRY(run_steps(runner_, kComparedSteps));
    US_TRY(runner_.stop());
    US_ASSIGN(const std::vector<uint32_t> actual, buffers());
    for (size_t i = 0; i < actual.size(); ++i) {
      if (actual[i] != expected[i]) ++bench_.different_floats;
    }
    return {};
  }

  Status measure_resident() {
    US_TRY(run_steps(runner_, kManySteps));
    for (uint32_t i = 0; i < kSamples; ++i) {
      US_ASSIGN(const double few, run_steps(runner_, kFewSteps));
      US_ASSIGN(const double many, run_steps(runner_, kManySteps));
      bench_.resident_us.push_back((many - few) / (kManySteps - kFewSteps));
    }
    std::ranges::sort(bench_.resident_us);
    return runner_.stop();
  }

  // Launched as the graph executor does.
  Status measure_graph() {
    const auto launch_all = [&](cudaStream_t stream) {
      cudaError_t error = machine_.begin_step(stream);
      for (size_t i = 0; i < kept_.size() && error == cudaSuccess; ++i) {
        error = machine_.launch(kept_[i], i > 0, stream);
      }
      return error;
    };
    US_ASSIGN(const TimedGraph graph, TimedGraph::record({}, launch_all, stream_));
    US_TRY(graph.run(stream_));
    for (uint32_t i = 0; i < kSamples; ++i) {
      US_ASSIGN(const double us, graph.run(stream_));
      bench_.graph_us.push_back(us);
    }
    std::ranges::sort(bench_.graph_us);
    return {};
  }

  Status trace() {
    US_ASSIGN(PhaseRunner runner, make_runner(true));
    US_TRY(run_steps(runner, 2));
    US_TRY(runner.stop());
    US_ASSIGN(const std::vector<PhaseTime> times, runner.phase_times(0));
    bench_.rows = rows_of(phases_, times, bench_.ctas.all());
    bench_.tasks = tasks_of(phases_, times, bench_);
    return {};
  }

  const StepMachine& machine_;
  cudaStream_t stream_;
  PhaseBench bench_;
  std::vector<uint32_t> kept_;
  std::vector<Phase> phases_;
  PhaseRunner runner_;
};

}  // namespace

Result<PhaseBench> measure_phases(const StepMachine& machine, const std::vector<uint32_t>& stages,
                                  cudaStream_t stream) {
  return PhaseMeasurement(machine, stream).run(stages);
}

}  // namespace ultraspeed::cuda
