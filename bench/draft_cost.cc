// draft_cost MODEL [THREADS]: what a cycle's draft part costs with 1,000 and with 8,000 tokens in
// the caches, for a DFlash drafter of random weights whose layers all have a sliding window
// (models/tiny-mimo). The two take turns, cycle by cycle; medians and their ratio are printed.
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench_result.h"
#include "bench_steps.h"
#include "cpu/executor.h"
#include "engine/engine.h"
#include "model/drafter.h"
#include "support/drafter_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed {
namespace {

// A session with a random prompt of `num_tokens`, past it.
class Text {
 public:
  Text(const std::string& directory, const model::Drafter& drafter, uint32_t num_tokens,
       uint32_t num_threads) {
    const auto config = value_or_exit(model::ModelConfig::load(directory));
    const auto checkpoint = value_or_exit(model::Checkpoint::open(directory));
    engine::EngineOptions options;
    options.max_context = 8192;
    options.max_sessions = 1;
    options.drafter.kind = engine::DrafterKind::kDflash;
    options.dflash = &drafter;
    engine_ = value_or_exit(engine::Engine::open(config, checkpoint, cpu::make_cpu_executor({}),
                                                 cpu::cpu_limits(num_threads), options, {}));
    std::mt19937 random(num_tokens);
    std::vector<int32_t> prompt(num_tokens);
    for (int32_t& id : prompt) id = static_cast<int32_t>(random() % config.vocab_size);
    engine::GenerationParams params;
    params.ignore_eos = true;
    params.sampling.temperature = 0;
    value_or_exit(engine_->start(prompt, params));
    while (engine_->decode_times().num_steps == 0) step();
  }

  // One cycle; the milliseconds of its draft part.
  double draft_ms() {
    const double before = engine_->decode_times().draft_s;
    step();
    return 1e3 * (engine_->decode_times().draft_s - before);
  }

 private:
  void step() {
    events_.clear();
    exit_on_error(engine_->step(&events_));
  }

  std::unique_ptr<engine::Engine> engine_;
  std::vector<engine::StepEvent> events_;
};

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc < 2) {
    fmt::print(stderr, "usage: draft_cost MODEL [THREADS]\n");
    return 2;
  }
  const auto num_threads = static_cast<uint32_t>(argc > 2 ? std::atoi(argv[2]) : 0);
  const test::TemporaryDirectory directory;
  value_or_exit(test::write_drafter(directory.path(), test::tiny_mimo_drafter()));
  const model::Drafter drafter = value_or_exit(model::Drafter::open(directory.path()));
  Text shorter(argv[1], drafter, 1000, num_threads);
  Text longer(argv[1], drafter, 8000, num_threads);
  std::vector<double> short_ms, long_ms;
  for (int cycle = 0; cycle < 150; ++cycle) {
    short_ms.push_back(shorter.draft_ms());
    long_ms.push_back(longer.draft_ms());
  }
  const double short_median = apps::median(short_ms);
  const double long_median = apps::median(long_ms);
  fmt::print("draft part of a cycle: {:.3f} ms at 1,000 tokens, {:.3f} ms at 8,000, ratio {:.3f}\n",
             short_median, long_median, long_median / short_median);
}
