#include "apps/loaded_model.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "apps/folder_check.h"
#include "apps/model_argument.h"
#include "apps/named_option.h"
#include "apps/terminal.h"
#include "engine/settings.h"
#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBundledModel = "models/tiny-mimo";

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// From the binary's folder upwards: build/release/ultraspeed lies two levels below the repository.
Result<std::string> bundled_model() {
  if (is_file(std::string(kBundledModel) + "/config.json")) return kBundledModel;
  std::error_code error;
  fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  while (!folder.empty()) {
    const std::string candidate = (folder / kBundledModel).string();
    if (is_file(candidate + "/config.json")) return candidate;
    if (folder == folder.root_path()) break;
    folder = folder.parent_path();
  }
  return make_error(ErrorCode::kNotFound,
                    "no model was named and the bundled {} is neither here nor above the program; "
                    "give --model DIR",
                    kBundledModel);
}

void add_executor_option(CLI::App& app, ExecutorKind* kind) {
  const auto set = [kind](const std::string& name) {
    *kind = name == "cpu"          ? ExecutorKind::kCpu
            : name == "graph"      ? ExecutorKind::kGraph
            : name == "persistent" ? ExecutorKind::kPersistent
                                   : ExecutorKind::kAuto;
  };
  app.add_option_function<std::string>("--executor", set,
                                       "What runs the model: cpu; on a GPU graph, or persistent, "
                                       "one kernel that stays, in f32; or auto, graph for more "
                                       "than 256 MiB (default: auto)")
      ->check(CLI::IsMember({"auto", "cpu", "graph", "persistent"}))
      ->envname("ULTRASPEED_EXECUTOR");
}

void add_mode_options(CLI::App& app, ExecutorOptions* executor) {
  add_named_option(app, "--activations",
                   "Inputs of matrix products: f32, exact; int8, faster and approximate; w4a16 or "
                   "w4a8, as a GPU rounds them (default: f32, and w4a8 on a GPU for more than 256 "
                   "MiB)",
                   program::kAllActivations, program::activations_name, &executor->activations)
      ->envname("ULTRASPEED_ACTIVATIONS");
  add_named_option(app, "--kv-cache,--kv-cache-dtype",
                   "Keys and values: f32, or rounded to bf16 or fp8 (default: f32, and bf16 on a "
                   "GPU for more than 256 MiB)",
                   program::kAllKvCacheTypes, program::kv_cache_type_name, &executor->kv_cache)
      ->envname("ULTRASPEED_KV_CACHE");
  add_dense_dtype_option(app, &executor->dense_dtype);
}

// Before the engine says the same of its own option.
Status check_prefill_width(const ModelOptions& options, const Speculation& speculation,
                           uint32_t num_mtp_layers) {
  const bool is_mtp = speculation.drafter().kind == engine::DrafterKind::kMtp;
  if (!is_mtp || options.prefill_width == 0 || options.prefill_width >= num_mtp_layers) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--prefill-width {}: expected at least {}, the MTP layers that draft",
                    options.prefill_width, num_mtp_layers);
}

// With what the command's flags can do about it.
Error with_advice(Error error, const ModelOptions& options) {
  if (error.code != ErrorCode::kOutOfMemory) return error;
  error.message += "; lower --context";
  if (!options.sessions_flag.empty()) error.message += " or " + options.sessions_flag;
  if (options.num_cached_prefixes > 0) error.message += " or --prefix-cache-slots";
  error.message += " for smaller caches";
  return error;
}

// Positions are computed and not looked up, so that more of them work; what the model makes of
// them is for who asks to know.
void extend_positions(uint32_t context, model::ModelConfig* config) {
  const uint32_t positions = config->max_position_embeddings;
  if (context <= positions) return;
  warn(fmt::format("--context {}: the model is made for {} positions; expect worse text beyond",
                   context, positions));
  config->max_position_embeddings = context;
}

// What standard error shows while weights are loaded, and what the weight cache says, behind it.
struct LoadingReport {
  // `cache` reports to it, and must be used no more when it is gone.
  explicit LoadingReport(engine::WeightCacheOptions* cache) {
    loading.emplace(loading_progress("Loading weights"));
    cache->progress = [this](uint64_t done, uint64_t total) {
      if (!reading) reading.emplace(loading_progress("Reading the checkpoint"));
      reading->update(done, total);
      if (done < total) return;
      reading->finish();
      loading.emplace(loading_progress("Loading weights"));  // begins now
    };
    cache->report = [this](std::string_view sentence) {
      sentences += fmt::format("{}\n", sentence);
    };
  }
  LoadingReport(const LoadingReport&) = delete;
  LoadingReport& operator=(const LoadingReport&) = delete;
  ~LoadingReport() {
    loading.reset();  // wipes its line, if it has one
    write_to_stderr(sentences);
  }

  std::optional<Progress> reading, loading;
  std::string sentences;
};

// One line: what --dense-dtype fp8 cost.
void report_dense_error(const model::DenseError& error) {
  write_to_stderr(
      fmt::format("{} matrices rounded to FP8, {:.1f} to {:.1f} MB: rms error {:.2f} %, {:.2f} % "
                  "at most ({})\n",
                  error.num_matrices, static_cast<double>(error.stored_bytes) / 1e6,
                  static_cast<double>(error.loaded_bytes) / 1e6, 100 * error.relative_rms,
                  100 * error.worst_rms, error.worst));
}

}  // namespace

void add_dense_dtype_option(CLI::App& command, model::DenseDtype* dense_dtype) {
  add_named_option(
      command, "--dense-dtype",
      "Projections, dense layers and head that the checkpoint keeps in BF16 or F32: as "
      "they are, or rounded to fp8 when loaded (default: checkpoint)",
      model::kAllDenseDtypes, model::dense_dtype_name, dense_dtype)
      ->envname("ULTRASPEED_DENSE_DTYPE");
}

void add_decode_width_option(CLI::App& command, uint32_t* decode_width) {
  command
      .add_option("--decode-width", *decode_width,
                  "Columns of a decode step, shared by the sessions: each takes one and its drafts "
                  "(default: a block for each, of 8 at most, or 1 without a drafter; on a GPU 8)")
      ->check(CLI::Range(kMinDecodeWidth, kMaxDecodeWidth))
      ->envname("ULTRASPEED_DECODE_WIDTH");
}

void add_ranks_option(CLI::App& command, uint32_t* ranks) {
  command
      .add_option("--ranks,--gpus,--tp,--tensor-parallel-size", *ranks,
                  "Tensor-parallel ranks: 1, 2, 4 or 8")
      ->check(CLI::IsMember({1, 2, 4, 8}))
      ->envname("ULTRASPEED_RANKS");
}

void add_model_options(CLI::App& command, ModelOptions* options) {
  CLI::App& app = *command.add_option_group("Model", "Which model, and on what");
  app.add_option("-m,--model", options->directory,
                 "Model folder, or ORG/NAME[@REVISION] of the Hugging Face cache, where 'pull' "
                 "downloads to (default: the bundled models/tiny-mimo)")
      ->envname("ULTRASPEED_MODEL");
  // After --model, so that it wins over the environment.
  app.add_option("DIR", options->directory, "The same as --model DIR");
  ExecutorOptions& executor = options->executor;
  add_executor_option(app, &executor.kind);
  app.add_option("-t,--threads", executor.threads, "Worker threads (default: one per processor)")
      ->check(CLI::Range(1, 1024))
      ->envname("ULTRASPEED_THREADS");
  app.add_flag(
         "--pin-threads", executor.pin_threads,
         "Keep each worker thread on a core of its own: for a machine with nothing else to do")
      ->envname("ULTRASPEED_PIN_THREADS");
  app.add_option("-c,--context,--max-model-len", options->context,
                 "Tokens of a session, prompt and output (default: the model's, at most 8192)")
      ->check(CLI::Range(2, 1 << 30))
      ->envname("ULTRASPEED_CONTEXT");
  add_ranks_option(app, &executor.ranks);
  add_named_option(app, "--all-reduce",
                   "How ranks add up what each has: two-shot, over the owner of the rows, or "
                   "one-shot, each for itself (default: two-shot)",
                   plan::kAllAllReduces, plan::all_reduce_name, &executor.all_reduce)
      ->envname("ULTRASPEED_ALL_REDUCE");
  app.add_option("--prefill-width", options->prefill_width,
                 "Prompt tokens of a step (default: 64; 256 where a GPU has kernels for them)")
      ->check(CLI::Range(1U, plan::kMaxWidth))
      ->envname("ULTRASPEED_PREFILL_WIDTH");
  add_mode_options(app, &executor);
  app.add_option(
         "--weight-cache", options->weight_cache,
         "Folder for packed weights, as large as the model for each way to load it: written "
         "at the first start, read at the next ones")
      ->envname("ULTRASPEED_WEIGHT_CACHE");
  app.add_flag("--check-weight-cache", options->checks_weight_cache,
               "Read all of the checkpoint to see that --weight-cache is of it, even if its files "
               "look as they did")
      ->envname("ULTRASPEED_CHECK_WEIGHT_CACHE");
}

Result<std::string> model_directory(const ModelOptions& options) {
  if (options.directory.empty()) return bundled_model();
  return find_model_folder(options.directory);
}

Result<LoadedModel> LoadedModel::open(const ModelOptions& options) {
  US_ASSIGN(const std::string directory, model_directory(options));
  US_ASSIGN(auto config, model::ModelConfig::load(directory));
  if (options.may_exceed_positions) extend_positions(options.context, &config);
  US_ASSIGN(auto generation, model::GenerationConfig::load(directory));
  auto checkpoint = model::Checkpoint::open(directory);
  if (!checkpoint) return tl::unexpected(with_pull_advice(checkpoint.error(), directory));
  US_ASSIGN(auto speculation, Speculation::open(options.speculation, directory,
                                                checkpoint->contents().num_mtp_layers));
  LoadedModel model(std::move(config), std::move(generation), *std::move(checkpoint),
                    std::move(speculation));
  if (is_file(directory + "/tokenizer.json")) {
    US_ASSIGN(model.tokenizer_, text::Tokenizer::load(directory + "/tokenizer.json"));
    auto chat_template = text::ChatTemplate::load(directory);
    const bool is_absent = !chat_template && chat_template.error().code == ErrorCode::kNotFound;
    if (is_absent) return model;
    US_ASSIGN(model.template_, std::move(chat_template));
  }
  return model;
}

std::vector<int32_t> LoadedModel::stop_ids() const {
  std::vector<int32_t> ids;
  for (const uint32_t id : model::stop_token_ids(config_, generation_)) {
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Result<const text::Tokenizer*> LoadedModel::require_tokenizer() const {
  if (tokenizer_) return &*tokenizer_;
  return tl::unexpected(with_pull_advice(
      {ErrorCode::kNotFound,
       fmt::format("{}: {}", directory(), describe_missing_tokenizer(directory()))},
      directory()));
}

Result<const text::ChatTemplate*> LoadedModel::require_chat_template() const {
  US_TRY(require_tokenizer());
  if (template_) return &*template_;
  return make_error(ErrorCode::kNotFound,
                    "{}: no chat template (chat_template.jinja, or in tokenizer_config.json), "
                    "which messages need",
                    directory());
}

Result<uint32_t> LoadedModel::max_context(const ModelOptions& options) const {
  const uint32_t positions = config_.max_position_embeddings;
  if (options.context > positions) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--context {}: more than the {} positions of this model", options.context,
                      positions);
  }
  return engine::choose_max_context({.max_context = options.context}, positions);
}

ArithmeticModes LoadedModel::modes(const ModelOptions& options,
                                   const engine::Engine& engine) const {
  return modes_on(options.executor, engine.device(), checkpoint_.contents().backbone.bytes);
}

Result<std::unique_ptr<engine::Engine>> LoadedModel::open_engine(
    const ModelOptions& options, uint32_t max_sessions, const Speculation& speculation) const {
  US_TRY(max_context(options));
  const uint32_t num_mtp_layers = checkpoint_.contents().num_mtp_layers;
  US_TRY(check_prefill_width(options, speculation, num_mtp_layers));
  engine::EngineOptions engine_options{
      .max_context = options.context,
      .max_sessions = max_sessions,
      .num_cached_prefixes = options.num_cached_prefixes,
      .prefill_width = options.prefill_width,
      .num_ranks = options.executor.ranks,
      .all_reduce = options.executor.all_reduce,
      .drafter = speculation.drafter(),
      .dflash = speculation.dflash(),
      .weight_cache = {.directory = options.weight_cache, .reads_all = options.checks_weight_cache},
      .dense_dtype = options.executor.dense_dtype,
      .captured_layers = options.captured_layers,
      .captures_expert_inputs = options.captures_expert_inputs,
      .on_dense_error = {}};
  std::optional<model::DenseError> dense_error;
  engine_options.on_dense_error = [&](const model::DenseError& error) { dense_error = error; };
  for (std::optional<ExecutorOptions> executor = options.executor;;) {
    US_ASSIGN(ChosenExecutor chosen,
              choose_executor(*executor, checkpoint_.contents().backbone.bytes));
    const std::string& device = chosen.limits.name;
    engine_options.block_size = speculation.block_on(device, chosen.modes);
    engine_options.has_plain_decode = device == kProcessor;
    engine_options.decode_width = options.decode_width != 0
                                      ? std::max(options.decode_width, speculation.block())
                                      : speculation.decode_width_on(device, max_sessions);
    LoadingReport report(&engine_options.weight_cache);
    auto engine = engine::Engine::open(
        config_, checkpoint_, std::move(chosen.executor), chosen.limits, engine_options,
        [&report](uint64_t done, uint64_t total) { report.loading->update(done, total); });
    if (engine) {
      report.loading->finish();
      if (dense_error) report_dense_error(*dense_error);
      return engine;
    }
    const Error error = with_advice(engine.error(), options);
    executor = next_choice(*executor, chosen.limits.name, error);
    if (!executor) return tl::unexpected(error);
  }
}

}  // namespace ultraspeed::apps
