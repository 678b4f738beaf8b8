// The one header of engine/ for a program that has a model inside: open a checkpoint's folder on an
// executor, generate by token ids. examples/embed.cpp shows it with a tokenizer; cpu/executor.h and
// cuda/graph_executor.h make executors. For several texts at once, forks, scores: engine().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "model/config.h"
#include "program/executor.h"

namespace ultraspeed::engine {

struct EmbedOptions {
  std::string directory;  // config.json and safetensors
  // A DFlash drafter's folder; empty: that of `directory`/dflash, if there is one. Without a
  // drafter drafts are what occurred before in a text.
  std::string drafter;
  EngineOptions engine;  // open() sets its drafter, dflash and, with a drafter, block_size
};

class Embedded {
 public:
  // The executor runs on `limits`, as cpu::cpu_limits() or the executor's own function gives them.
  // Errors: those of ModelConfig::load(), Checkpoint::open(), Drafter::open(), Engine::open().
  static Result<Embedded> open(const EmbedOptions& options,
                               std::unique_ptr<program::Executor> executor,
                               const program::DeviceLimits& limits);

  // How generation_config.json samples (greedily if it does not), and the model's stop ids.
  GenerationParams default_params() const;

  // The output for a prompt, its stop token included. on_token gets each token as it comes and
  // returns false to end. Runs alone. Errors: kInvalidArgument (sessions of engine() are active,
  // and those of Engine::start()), those of Engine::step().
  Result<std::vector<int32_t>> generate(std::span<const int32_t> prompt,
                                        const GenerationParams& params,
                                        const std::function<bool(int32_t token)>& on_token = {});

  const model::ModelConfig& config() const { return config_; }
  Engine& engine() { return *engine_; }

 private:
  Embedded(model::ModelConfig config, model::GenerationConfig generation,
           std::unique_ptr<Engine> engine)
      : config_(std::move(config)),
        generation_(std::move(generation)),
        engine_(std::move(engine)) {}

  model::ModelConfig config_;
  model::GenerationConfig generation_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ultraspeed::engine
