#include "apps/feature_capture.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/answers.h"
#include "apps/bench_prompts.h"
#include "apps/files.h"
#include "apps/provenance.h"
#include "apps/target_state.h"
#include "apps/terminal.h"
#include "base/progress.h"
#include "train/feature_shard.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr size_t kTextsAtOnce = 256;        // whose tokens are kept until they are captured
constexpr uint32_t kDecodeColumnsStep = 8;  // decode widths are multiples of it

struct Counts {
  uint64_t texts = 0, tokens = 0, answer_tokens = 0;

  void add(uint64_t text_tokens, uint64_t of_answer) {
    ++texts;
    tokens += text_tokens;
    answer_tokens += of_answer;
  }
  ordered_json json() const {
    return {{"texts", texts}, {"tokens", tokens}, {"answer_tokens", answer_tokens}};
  }
};

double now_s() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// The prompts of a run that leave room for an answer.
struct PromptList {
  std::vector<BenchPrompt> prompts;
  std::vector<uint64_t> seeds;  // [prompts]
  uint64_t num_too_long = 0;

  // Tokens of the longest text that may come of them.
  uint32_t max_length(const CaptureOptions& options) const {
    size_t longest = 0;
    for (const BenchPrompt& prompt : prompts) longest = std::max(longest, prompt.ids.size());
    return static_cast<uint32_t>(
        std::min<uint64_t>(options.max_length, longest + options.max_tokens));
  }
};

Result<PromptList> take_prompts(const CaptureOptions& options, const LoadedModel& model) {
  US_ASSIGN(std::vector<BenchPrompt> all, read_prompts(model, options.prompts));
  if (options.skip >= all.size()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--skip {}: expected less than the {} prompts of {}", options.skip,
                      all.size(), file_label(options.prompts));
  }
  const uint64_t left = all.size() - options.skip;
  const uint64_t count = options.limit == 0 ? left : std::min(left, options.limit);
  PromptList list;
  for (uint64_t place = options.skip; place < options.skip + count; ++place) {
    if (all[place].ids.size() >= options.max_length) {
      ++list.num_too_long;
      continue;
    }
    list.prompts.push_back(std::move(all[place]));
    // By the place in the file, so that parts of it give the texts of the whole; runs of other
    // seeds are far away: 2^64 divided by the golden ratio.
    list.seeds.push_back(options.seed * 0x9e3779b97f4a7c15U + place);
  }
  if (!list.prompts.empty()) return list;
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: none of {} prompts has fewer than {} tokens; raise --max-length",
                    file_label(options.prompts), count, options.max_length);
}

class Capture {
 public:
  Capture(const CaptureOptions& options, const LoadedModel& model, PromptList list,
          train::FeatureShape shape)
      : options_(options), model_(model), list_(std::move(list)), shape_(std::move(shape)) {}

  Status run(engine::Engine& engine, train::FeatureFolderWriter* folder) {
    US_ASSIGN(const TextFeatures features, TextFeatures::create(model_, engine, shape_));
    Progress progress(progress_options());
    const auto show = [&] { progress.update(num_halves_, 2 * list_.prompts.size()); };
    for (size_t begin = 0; begin < list_.prompts.size(); begin += kTextsAtOnce) {
      const size_t count = std::min(kTextsAtOnce, list_.prompts.size() - begin);
      const auto batch = std::span(list_.prompts).subspan(begin, count);
      const double begin_s = now_s();
      US_ASSIGN(const auto answers,
                write_batch(engine, batch, std::span(list_.seeds).subspan(begin, count), show));
      const double middle_s = now_s();
      for (size_t i = 0; i < count; ++i) {
        US_TRY(capture_text(features, batch[i], answers[i], folder));
        show();
      }
      write_s_ += middle_s - begin_s;
      capture_s_ += now_s() - middle_s;
    }
    US_TRY(folder->finish());
    progress.finish();
    return {};
  }

  ordered_json summary(const engine::Engine& engine, const train::ShardList& shards) const {
    const ArithmeticModes modes = model_.modes(options_.model, engine);
    const Provenance made_by = provenance();
    ordered_json families = ordered_json::object(), listed = ordered_json::object();
    for (const auto& [name, sum] : shards) listed[name] = train::shard_sum_text(sum);
    for (const auto& [family, counts] : families_) families[family] = counts.json();
    ordered_json json = {{"version", made_by.version},
                         {"commit", made_by.commit},
                         {"command", made_by.command},
                         {"model", model_.directory()},
                         {"target", shape_.model},
                         {"device", engine.device()},
                         {"activations", program::activations_name(modes.activations)},
                         {"kv_cache", program::kv_cache_type_name(modes.kv_cache)},
                         {"dense_dtype", model::dense_dtype_name(modes.dense_dtype)},
                         {"layers", shape_.target_layer_ids},
                         {"prompts", options_.prompts},
                         {"skip", options_.skip},
                         {"limit", options_.limit},
                         {"max_tokens", options_.max_tokens},
                         {"max_length", options_.max_length},
                         {"temperature", options_.temperature},
                         {"seed", options_.seed},
                         {"streams", options_.streams},
                         {"prompts_too_long", list_.num_too_long},
                         {"write_s", write_s_},
                         {"capture_s", capture_s_}};
    json.update(total_.json());
    json["families"] = std::move(families);
    json[std::string(train::kShardsKey)] = std::move(listed);
    return json;
  }

 private:
  // Counts halves of texts: one when it is written, one when it is captured.
  ProgressOptions progress_options() const {
    ProgressOptions options = loading_progress("Capturing");
    options.format_amount = [](double halves) { return fmt::format("{:.1f} texts", halves / 2); };
    options.note = [this] {
      return fmt::format(", {} tokens written, {} captured", num_written_, total_.tokens);
    };
    return options;
  }

  Result<std::vector<std::vector<int32_t>>> write_batch(engine::Engine& engine,
                                                        std::span<const BenchPrompt> prompts,
                                                        std::span<const uint64_t> seeds,
                                                        const std::function<void()>& show) {
    AnswerOptions options{.streams = options_.streams,
                          .max_tokens = options_.max_tokens,
                          .max_length = options_.max_length,
                          .temperature = options_.temperature,
                          .seeds = seeds,
                          .stop_ids = model_.stop_ids(),
                          .progress = {}};
    options.progress = [&](uint64_t num_tokens, bool is_done) {
      num_written_ += num_tokens;
      num_halves_ += is_done ? 1 : 0;
      show();
    };
    return write_answers(engine, model_.tokenizer(), prompts, options);
  }

  Status capture_text(const TextFeatures& features, const BenchPrompt& prompt,
                      const std::vector<int32_t>& answer, train::FeatureFolderWriter* folder) {
    std::vector<int32_t> text = prompt.ids;
    text.insert(text.end(), answer.begin(), answer.end());
    US_ASSIGN(const train::FeatureSequence sequence, features.of(text, prompt.ids.size()));
    US_TRY(folder->add(sequence));
    total_.add(text.size(), answer.size());
    families_[prompt.family].add(text.size(), answer.size());
    ++num_halves_;
    return {};
  }

  const CaptureOptions& options_;
  const LoadedModel& model_;
  const PromptList list_;
  const train::FeatureShape shape_;
  Counts total_;
  std::map<std::string, Counts> families_;  // "": prompts of none
  uint64_t num_halves_ = 0;
  uint64_t num_written_ = 0;  // tokens of answers
  double write_s_ = 0, capture_s_ = 0;
};

// With what the engine needs for both phases.
Result<CaptureOptions> complete(CaptureOptions options, const LoadedModel& model) {
  US_ASSIGN(const uint32_t max_context, model.max_context(options.model));
  options.max_length = std::min(options.max_length, max_context);
  const uint32_t num_layers = model.config().num_layers();
  for (size_t i = 0; i < options.layers.size(); ++i) {
    if (options.layers[i] < num_layers && (i == 0 || options.layers[i - 1] < options.layers[i])) {
      continue;
    }
    return make_error(ErrorCode::kInvalidArgument,
                      "--layers: {} in place {}; expected ascending numbers below {}, the layers "
                      "of {}",
                      options.layers[i], i + 1, num_layers, model.directory());
  }
  if (options.layers.empty()) options.layers = default_taps(num_layers);
  options.model.captured_layers = options.layers;
  const uint32_t columns =
      (options.streams + kDecodeColumnsStep - 1) / kDecodeColumnsStep * kDecodeColumnsStep;
  options.model.decode_width = std::min(columns, kMaxDecodeWidth);
  return options;
}

std::string summary_text(const CaptureOptions& options, const ordered_json& json) {
  return fmt::format("{}: {} texts of {} tokens, {} of them answered, in {} shards\n",
                     options.output, json["texts"].get<uint64_t>(), json["tokens"].get<uint64_t>(),
                     json["answer_tokens"].get<uint64_t>(),
                     json[std::string(train::kShardsKey)].size());
}

}  // namespace

Status capture_features(const CaptureOptions& asked) {
  US_ASSIGN(const LoadedModel model, LoadedModel::open(asked.model));
  US_ASSIGN(CaptureOptions options, complete(asked, model));
  US_ASSIGN(PromptList list, take_prompts(options, model));
  options.model.context = list.max_length(options);
  train::FeatureShape shape{.hidden_size = model.config().hidden_size,
                            .vocab_size = model.config().vocab_size,
                            .num_target_layers = model.config().num_layers(),
                            .target_layer_ids = options.layers,
                            .model = {}};
  {
    US_ASSIGN(const train::FrozenTables tables, read_target_tables(model));
    shape.model = tables.model;
    US_TRY(train::FeatureFolderWriter::create(options.output, shape, options.shard_bytes));
    US_TRY(tables.write(options.output + "/target.tables"));
  }
  US_ASSIGN(auto folder,
            train::FeatureFolderWriter::create(options.output, shape, options.shard_bytes));
  US_ASSIGN(const auto engine, model.open_engine(options.model, options.streams));
  Capture capture(options, model, std::move(list), shape);
  US_TRY(capture.run(*engine, &folder));
  const ordered_json json = capture.summary(*engine, folder.shards());
  US_TRY(write_json_file(fmt::format("{}/{}", options.output, train::kCaptureFile), json));
  return write_all(STDOUT_FILENO, summary_text(options, json));
}

}  // namespace ultraspeed::apps
