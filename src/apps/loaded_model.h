// A model folder opened once for all commands: configuration, checkpoint, tokenizer, chat template,
// and the engine on whatever runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/executor_choice.h"
#include "apps/speculation.h"
#include "base/result.h"
#include "engine/engine.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

struct ModelOptions {
  std::string directory;  // or ORG/NAME[@REVISION] (model_argument.h); empty: the bundled model
  uint32_t context = 0;   // tokens of a session; 0: the model's, at most 8192
  bool may_exceed_positions = false;  // more than the checkpoint says, with a warning
  ExecutorOptions executor;
  SpeculationOptions speculation;
  uint32_t decode_width = 0;         // columns of a decode step; 0: what suits drafter and device
  uint32_t prefill_width = 0;        // prompt tokens of a step; 0: what suits the executor
  uint32_t num_cached_prefixes = 0;  // EngineOptions::num_cached_prefixes
  std::vector<uint32_t> captured_layers = {};  // EngineOptions::captured_layers
  bool captures_expert_inputs = false;         // EngineOptions::captures_expert_inputs
  std::string weight_cache = {};               // WeightCacheOptions::directory
  bool checks_weight_cache = false;            // WeightCacheOptions::reads_all
  // The command's flag for the number of sessions, which errors advise to lower; "": it has none.
  std::string sessions_flag = {};
};

// --model DIR (or DIR as the first argument), --executor, --threads, --pin-threads, --context,
// --ranks, --prefill-width, --activations, --kv-cache, --dense-dtype, --weight-cache and their
// aliases, each with an environment variable ULTRASPEED_NAME that the flag overrides.
void add_model_options(CLI::App& command, ModelOptions* options);

// --decode-width and its variable, for commands whose sessions share decode steps.
void add_decode_width_option(CLI::App& command, uint32_t* decode_width);

// --dense-dtype alone.
void add_dense_dtype_option(CLI::App& command, model::DenseDtype* dense_dtype);

// --ranks and its aliases alone.
void add_ranks_option(CLI::App& command, uint32_t* ranks);

// The folder that the options mean. The bundled model is looked for in the current folder and in
// the folders above the running binary. Errors: those of find_model_folder().
Result<std::string> model_directory(const ModelOptions& options);

class LoadedModel {
 public:
  // Everything but the weights, so that a wrong prompt fails before the long part. Errors name what
  // the folder lacks.
  static Result<LoadedModel> open(const ModelOptions& options);

  const std::string& directory() const { return checkpoint_.directory(); }
  const model::ModelConfig& config() const { return config_; }
  const model::GenerationConfig& generation() const { return generation_; }
  const model::Checkpoint& checkpoint() const { return checkpoint_; }
  const Speculation& speculation() const { return speculation_; }
  std::vector<int32_t> stop_ids() const;

  // nullptr when the folder has none.
  const text::Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  const text::ChatTemplate* chat_template() const { return template_ ? &*template_ : nullptr; }
  // Errors: kNotFound. What to do without depends on the command: check_takes_text() of prompt.h.
  Result<const text::Tokenizer*> require_tokenizer() const;
  Result<const text::ChatTemplate*> require_chat_template() const;

  // Tokens of a session. Errors: kInvalidArgument for more than the model has positions.
  Result<uint32_t> max_context(const ModelOptions& options) const;

  // Plans, verifies and loads the weights, with progress on standard error. Errors that flags can
  // mend name them.
  Result<std::unique_ptr<engine::Engine>> open_engine(const ModelOptions& options,
                                                      uint32_t max_sessions) const {
    return open_engine(options, max_sessions, speculation_);
  }
  Result<std::unique_ptr<engine::Engine>> open_engine(const ModelOptions& options,
                                                      uint32_t max_sessions,
                                                      const Speculation& speculation) const;
  // What the options mean for an engine that they opened.
  ArithmeticModes modes(const ModelOptions& options, const engine::Engine& engine) const;

 private:
  LoadedModel(model::ModelConfig config, model::GenerationConfig generation,
              model::Checkpoint checkpoint, Speculation speculation)
      : config_(std::move(config)),
        generation_(std::move(generation)),
        checkpoint_(std::move(checkpoint)),
        speculation_(std::move(speculation)) {}

  model::ModelConfig config_;
  model::GenerationConfig generation_;
  model::Checkpoint checkpoint_;
  Speculation speculation_;
  std::optional<text::Tokenizer> tokenizer_;
  std::optional<text::ChatTemplate> template_;
};

}  // namespace ultraspeed::apps
