#include "engine/embed.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "model/checkpoint.h"
#include "model/drafter.h"

namespace ultraspeed::engine {
namespace {

// The drafter's folder, empty if there is none.
std::string drafter_folder(const EmbedOptions& options) {
  if (!options.drafter.empty()) return options.drafter;
  const std::string beside = options.directory + "/dflash";
  return std::filesystem::exists(beside + "/config.json") ? beside : std::string();
}

}  // namespace

Result<Embedded> Embedded::open(const EmbedOptions& options,
                                std::unique_ptr<program::Executor> executor,
                                const program::DeviceLimits& limits) {
  US_ASSIGN(auto config, model::ModelConfig::load(options.directory));
  US_ASSIGN(auto generation, model::GenerationConfig::load(options.directory));
  US_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.directory));
  EngineOptions engine_options = options.engine;
  engine_options.drafter.kind = DrafterKind::kSuffix;
  std::optional<model::Drafter> drafter;
  if (const std::string folder = drafter_folder(options); !folder.empty()) {
    US_ASSIGN(drafter, model::Drafter::open(folder));
    engine_options.drafter.kind = DrafterKind::kDflash;
    engine_options.dflash = &*drafter;
    engine_options.block_size = drafter->config().block_size;
    engine_options.decode_width = std::max(engine_options.decode_width, engine_options.block_size);
  }
  US_ASSIGN(auto engine,
            Engine::open(config, checkpoint, std::move(executor), limits, engine_options, nullptr));
  return Embedded(std::move(config), std::move(generation), std::move(engine));
}

GenerationParams Embedded::default_params() const {
  GenerationParams params;
  params.sampling.temperature = generation_.do_sample ? generation_.temperature : 0;
  params.sampling.top_k = generation_.top_k;
  params.sampling.top_p = generation_.top_p;
  params.sampling.min_p = generation_.min_p;
  params.sampling.repetition_penalty = generation_.repetition_penalty;
  for (const uint32_t id : model::stop_token_ids(config_, generation_)) {
    params.stop_ids.push_back(static_cast<int32_t>(id));
  }
  return params;
}

Result<std::vector<int32_t>> Embedded::generate(
    std::span<const int32_t> prompt, const GenerationParams& params,
    const std::function<bool(int32_t token)>& on_token) {
  if (!engine_->idle()) {
    return make_error(ErrorCode::kInvalidArgument, "generate() runs alone: sessions are active");
  }
  US_ASSIGN(const SessionId session, engine_->start(prompt, params));
  std::vector<int32_t> output;
  std::vector<StepEvent> events;
  while (!engine_->idle()) {
    events.clear();
    US_TRY(engine_->step(&events));
    for (const StepEvent& event : events) {
      if (!event.token) continue;
      output.push_back(event.token->id);
      if (!on_token || on_token(event.token->id)) continue;
      engine_->cancel(session);
      return output;
    }
  }
  return output;
}

}  // namespace ultraspeed::engine
