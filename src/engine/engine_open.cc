// From a checkpoint to an engine: plans, proofs, limits, weights.
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/engine.h"
#include "engine/program_engine.h"
#include "engine/settings.h"
#include "engine/weight_cache.h"
#include "model/dense_dtype.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "program/verify.h"

namespace ultraspeed::engine {
namespace {

// The weights of a target and of what drafts for it, if there is something.
struct WeightFiles {
  WeightFiles(const model::ModelConfig& config, const model::Checkpoint& checkpoint,
              const EngineOptions& options)
      : stored(checkpoint, config),
        target(stored, config, options.dense_dtype),
        drafter(options.dflash) {}

  model::WeightLoader stored;  // the target's, as the checkpoint has them
  model::DenseLoader target;
  const model::Drafter* drafter;
  std::optional<model::WeightLoader> mtp;

  Result<model::WeightShape> shape(const model::WeightSource& source) const {
    if (source.stack == model::Stack::kDflash) return drafter->shape(source);
    return source.stack == model::Stack::kMtp ? mtp->shape(source) : target.shape(source);
  }
  Status load(const model::WeightSource& source, std::span<std::byte> out) const {
    if (source.stack == model::Stack::kDflash) {
      return drafter->load(source, out, &stored);
    }
    return source.stack == model::Stack::kMtp ? mtp->load(source, out) : target.load(source, out);
  }
  Status check_complete() const {
    US_TRY(target.check_complete());
    if (drafter != nullptr) US_TRY(drafter->check_complete());
    return mtp ? mtp->check_complete() : Status();
  }
};

// The MTP layers that the checkpoint's tensors show: config.json often does not count them.
Result<model::ModelConfig> mtp_stack_of(const model::ModelConfig& config,
                                        const model::Checkpoint& checkpoint) {
  const uint32_t num_layers = checkpoint.contents().num_mtp_layers;
  if (num_layers == 0) {
    return make_error(
        ErrorCode::kNotFound,
        "{}: no MTP layers; expected tensors model.mtp.layers.K.*, or another drafter",
        checkpoint.directory());
  }
  return config.mtp_stack(num_layers);
}

Result<plan::Plan> make_proven_plan(const model::ModelConfig& config, const WeightFiles& files,
                                    const program::DeviceLimits& limits,
                                    const plan::PlanOptions& options) {
  const auto shape_of = [&](const model::WeightSource& source) { return files.shape(source); };
  US_ASSIGN(plan::Plan plan, plan::make_plan(config, shape_of, limits, options));
  US_TRY(program::verify(plan.program));
  return plan;
}

Result<std::unique_ptr<WeightCache>> open_cache(const EngineOptions& options,
                                                const model::Checkpoint& checkpoint,
                                                const plan::Plan& plan) {
  if (options.weight_cache.directory.empty()) return nullptr;
  model::Fingerprint fingerprint;
  US_TRY(fingerprint.add("model", checkpoint));
  if (options.dflash != nullptr) US_TRY(fingerprint.add("drafter", options.dflash->checkpoint()));
  return WeightCache::open(options.weight_cache, std::move(fingerprint), plan);
}

// Reads the weights of a plan for any rank and counts the bytes. Executors may call it from several
// threads; the progress callback is never entered twice at once.
class CountingReader {
 public:
  // cache: nullptr for none.
  CountingReader(const WeightFiles& files, WeightCache* cache, const plan::Plan& plan,
                 const LoadProgress& progress)
      : files_(files),
        cache_(cache),
        sources_(plan.sources),
        num_ranks_(plan.program.num_ranks),
        progress_(progress) {
    for (const auto& weight : plan.program.weights) {
      bytes_total_ += weight.size_bytes() * (num_ranks_ / weight.rank_stride);
    }
  }

  Status read(uint32_t rank, program::WeightId weight, uint32_t index, std::span<std::byte> out) {
    if (cache_ == nullptr || !cache_->read(rank, weight, index, out)) {
      model::WeightSource source = plan::source_on(rank, num_ranks_, sources_[weight]);
      source.expert = index;
      US_TRY(files_.load(source, out));
      if (cache_ != nullptr) cache_->keep(rank, weight, index, out);
    }
    if (!progress_) return {};
    const std::lock_guard lock(mutex_);
    bytes_done_ += out.size();
    progress_(bytes_done_, bytes_total_);
    return {};
  }

 private:
  const WeightFiles& files_;
  WeightCache* const cache_;
  const std::vector<model::WeightSource> sources_;  // [Program::weights]
  const uint32_t num_ranks_;
  const LoadProgress& progress_;
  std::mutex mutex_;  // guards bytes_done_ and the callback
  uint64_t bytes_done_ = 0;
  uint64_t bytes_total_ = 0;
};

// The decode program, and a prefill program of the width that is asked for or suits the executor.
// Of its own choice it takes a narrow one where memory has no room for more.
template <class MakePrefill>
Result<std::vector<program::Program>> with_prefill(program::Program decode, uint32_t asked_width,
                                                   const MakePrefill& make_prefill,
                                                   const program::Executor& executor,
                                                   const program::CacheLimits& cache,
                                                   const program::DeviceLimits& limits) {
  constexpr uint32_t kNarrow = 64;
  uint32_t width = asked_width != 0 ? asked_width : executor.prefill_width(decode);
  std::vector<program::Program> programs;
  programs.push_back(std::move(decode));
  for (;; width = kNarrow) {
    US_ASSIGN(plan::Plan prefill, make_prefill(width));
    programs.push_back(std::move(prefill.program));
    const Status fits = check_memory(memory_need(programs, cache, executor), limits);
    if (fits) return programs;
    if (asked_width != 0 || width <= kNarrow) return tl::unexpected(fits.error());
    programs.pop_back();
  }
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(const model::ModelConfig& config,
                                             const model::Checkpoint& checkpoint,
                                             std::unique_ptr<program::Executor> executor,
                                             const program::DeviceLimits& limits,
                                             const EngineOptions& options,
                                             const LoadProgress& progress) {
  US_CHECK((options.dflash != nullptr) == (options.drafter.kind == DrafterKind::kDflash),
           "drafter kind {}", static_cast<int>(options.drafter.kind));
  WeightFiles files(config, checkpoint, options);
  model::ModelConfig mtp;  // of kMtp
  const bool has_mtp = options.drafter.kind == DrafterKind::kMtp;
  if (has_mtp) {
    US_ASSIGN(mtp, mtp_stack_of(config, checkpoint));
    files.mtp.emplace(checkpoint, mtp);
  }
  US_TRY(files.check_complete());
  EngineSettings settings;
  settings.vocab_size = config.vocab_size;
  US_ASSIGN(settings.max_context, choose_max_context(options, config.max_position_embeddings));

  US_TRY(check_drafter(options, mtp.num_layers()));
  settings.device = limits.name;
  settings.drafter = options.drafter;
  settings.block_size = options.block_size;
  settings.num_cached_prefixes = options.num_cached_prefixes;

  plan::PlanOptions plan_options{.name = "decode",
                                 .width = options.decode_width,
                                 .num_ranks = options.num_ranks,
                                 .all_reduce = options.all_reduce,
                                 .logits = executor->keeps_logit_shares()
                                               ? plan::LogitsPlace::kShares
                                               : plan::LogitsPlace::kRankZero,
                                 .max_context = settings.max_context};
  if (options.dflash != nullptr) plan_options.drafter = &options.dflash->config();
  plan_options.is_drafting = options.dflash != nullptr;
  if (has_mtp) plan_options.mtp = &mtp;
  US_ASSIGN(plan::Plan decode, make_proven_plan(config, files, limits, plan_options));
  US_ASSIGN(settings.cache, choose_cache_limits(options, settings.max_context, decode.program));
  US_ASSIGN(const auto cache, open_cache(options, checkpoint, decode));
  CountingReader reader(files, cache.get(), decode, progress);
  plan_options.name = "prefill";
  plan_options.is_drafting = false;
  const auto make_prefill = [&](uint32_t width) {
    plan_options.width = width;
    plan_options.captured_layers = options.captured_layers;
    plan_options.captures_expert_inputs = options.captures_expert_inputs;
    return make_proven_plan(config, files, limits, plan_options);
  };
  US_ASSIGN(auto programs, with_prefill(std::move(decode.program), options.prefill_width,
                                        make_prefill, *executor, settings.cache, limits));
  if (options.dflash != nullptr && options.has_plain_decode) {
    plan_options.name = "decode_plain";
    plan_options.width = options.decode_width;
    plan_options.captured_layers.clear();
    plan_options.captures_expert_inputs = false;
    US_ASSIGN(plan::Plan plain, make_proven_plan(config, files, limits, plan_options));
    programs.push_back(std::move(plain.program));
    US_TRY(check_memory(memory_need(programs, settings.cache, *executor), limits));
  }
  const auto read_weight = [&](uint32_t rank, program::WeightId weight, uint32_t index,
                               std::span<std::byte> out) {
    return reader.read(rank, weight, index, out);
  };
  US_ASSIGN(auto engine,
            ProgramEngine::make(std::move(programs), std::move(executor), settings, read_weight));
  if (cache != nullptr) cache->finish();
  const model::DenseError dense_error = files.target.error();
  if (dense_error.num_matrices > 0 && options.on_dense_error) options.on_dense_error(dense_error);
  return engine;
}

}  // namespace ultraspeed::engine
