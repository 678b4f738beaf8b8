#include "apps/score_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/compare_models.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "apps/score.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

struct ScoreOptions {
  ModelOptions model;
  std::optional<std::string> file, prompt_ids;
  std::string against;  // a model folder; "": none
  uint32_t window = 0;  // 0: the context
  uint32_t stride = 0;  // 0: half the window
  bool tokens = false;
  bool json = false;
};

Result<std::vector<int32_t>> read_tokens(const ScoreOptions& options, const LoadedModel& model) {
  if (options.prompt_ids) return parse_token_ids(*options.prompt_ids, "--prompt-ids");
  US_TRY(check_takes_text(model));
  US_ASSIGN(const std::string text, read_file(*options.file));
  return encode_raw(model, text);
}

Result<ScoreWindows> choose_windows(const ScoreOptions& options, uint32_t max_context) {
  ScoreWindows windows{.window = options.window == 0 ? max_context : options.window,
                       .stride = options.stride};
  if (windows.window > max_context) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--window {}: more than the context of {} tokens (see --context)",
                      windows.window, max_context);
  }
  if (windows.window < 2) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--window {}: expected at least 2 tokens, for a token is scored by those "
                      "before it",
                      windows.window);
  }
  if (windows.stride == 0) windows.stride = windows.window / 2;
  if (windows.stride < windows.window) return windows;
  return make_error(ErrorCode::kInvalidArgument,
                    "--stride {}: expected less than the window of {} tokens", windows.stride,
                    windows.window);
}

// A token's bytes for a person: quoted, with everything but printable ASCII escaped.
std::string quoted(std::string_view bytes) {
  std::string text = "\"";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      text += "\\n";
    } else if (c == '"' || c == '\\') {
      text += {'\\', c};
    } else if (byte < 0x20 || byte > 0x7e) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return text + '"';
}

std::string token_table(const LoadedModel& model, const std::vector<int32_t>& ids,
                        const std::vector<float>& nll) {
  std::string text = fmt::format("{:>8} {:>8} {:>10}  {}\n", "position", "id", "nll", "token");
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string value = i == 0 ? "-" : fmt::format("{:.4f}", nll[i - 1]);
    const std::string token =
        model.tokenizer() == nullptr ? "" : quoted(model.tokenizer()->token_bytes(ids[i]));
    text += fmt::format("{:>8} {:>8} {:>10}  {}\n", i, ids[i], value, token);
  }
  return text;
}

std::string result_json(const std::vector<int32_t>& ids, const std::vector<float>& nll,
                        const ScoreWindows& windows) {
  const double mean = mean_of(nll);
  const ordered_json json = {{"num_tokens", ids.size()},
                             {"num_scored", nll.size()},
                             {"mean_nll", mean},
                             {"perplexity", std::exp(mean)},
                             {"window", windows.window},
                             {"stride", windows.stride},
                             {"ids", ids},
                             {"nll", nll}};
  return json.dump() + "\n";
}

std::string comparison_json(const Comparison& comparison, const ScoreWindows& windows) {
  const Statistics& statistics = comparison.statistics;
  const ordered_json json = {{"num_scored", statistics.num_tokens},
                             {"kl_mean", statistics.kl_mean},
                             {"kl_999", statistics.kl_999},
                             {"kl_max", statistics.kl_max},
                             {"top1_agreement", statistics.agreement},
                             {"mean_nll", statistics.nll_mean},
                             {"perplexity", std::exp(statistics.nll_mean)},
                             {"against_mean_nll", comparison.reference_nll},
                             {"against_perplexity", std::exp(comparison.reference_nll)},
                             {"nll_change", statistics.nll_change},
                             {"nll_change_error", statistics.nll_change_error},
                             {"window", windows.window},
                             {"stride", windows.stride}};
  return json.dump() + "\n";
}

std::string comparison_text(const Comparison& comparison) {
  const Statistics& statistics = comparison.statistics;
  return fmt::format(
      "scored            {}\nmean KL           {:.3e}\n99.9 % KL         {:.3e}\n"
      "largest KL        {:.3e}\nsame top token    {:.3f} %\nperplexity        {:.6f}\n"
      "of the other      {:.6f}\nNLL change        {:.3e} +- {:.1e}\n",
      statistics.num_tokens, statistics.kl_mean, statistics.kl_999, statistics.kl_max,
      100 * statistics.agreement, std::exp(statistics.nll_mean), std::exp(comparison.reference_nll),
      statistics.nll_change, statistics.nll_change_error);
}

// Logits are computed by the processor's operations alone, from the weights as they are stored.
Status check_comparable(const ScoreOptions& options) {
  const ExecutorOptions& executor = options.model.executor;
  const bool is_processor =
      executor.kind == ExecutorKind::kAuto || executor.kind == ExecutorKind::kCpu;
  if (is_processor && executor.ranks == 1 && !options.tokens &&
      executor.dense_dtype == model::DenseDtype::kCheckpoint) {
    return {};
  }
  return make_error(
      ErrorCode::kInvalidArgument,
      "--against: compares on the processor, on one rank, with the weights as stored "
      "and without --tokens; leave out --executor, --ranks, --dense-dtype and --tokens");
}

Status score_against(const ScoreOptions& options, const LoadedModel& model,
                     const std::vector<int32_t>& ids, const ScoreWindows& windows) {
  US_TRY(check_comparable(options));
  ModelOptions other = options.model;
  other.directory = options.against;
  US_ASSIGN(const LoadedModel reference, LoadedModel::open(other));
  US_TRY(reference.max_context(other));
  const Mode mode = {options.model.executor.activations.value_or(program::Activations::kF32),
                     options.model.executor.kv_cache.value_or(program::KvCacheType::kF32)};
  const PassingLine line;
  const auto progress = [&](size_t done) {
    line.show(fmt::format("Comparing {} of {} tokens", done, ids.size() - 1));
  };
  const auto comparison = compare_models(model, reference, mode, ids, windows, progress);
  line.clear();
  if (!comparison) return tl::unexpected(comparison.error());
  return write_all(STDOUT_FILENO, options.json ? comparison_json(*comparison, windows)
                                               : comparison_text(*comparison));
}

Status score(const ScoreOptions& options) {
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_ASSIGN(const std::vector<int32_t> ids, read_tokens(options, model));
  US_ASSIGN(const uint32_t max_context, model.max_context(options.model));
  US_ASSIGN(const ScoreWindows windows, choose_windows(options, max_context));
  if (!options.against.empty()) return score_against(options, model, ids, windows);
  US_ASSIGN(const auto engine, model.open_engine(options.model, 1));
  const PassingLine line;
  const auto progress = [&](size_t done) {
    line.show(fmt::format("Scoring {} of {} tokens", done, ids.size() - 1));
  };
  auto nll = score_tokens(*engine, ids, windows, progress);
  line.clear();
  if (!nll) return tl::unexpected(std::move(nll).error());
  if (options.json) return write_all(STDOUT_FILENO, result_json(ids, *nll, windows));
  if (options.tokens) US_TRY(write_all(STDOUT_FILENO, token_table(model, ids, *nll)));
  const double mean = mean_of(*nll);
  return write_all(STDOUT_FILENO,
                   fmt::format("tokens      {}\nscored      {}\nmean NLL    {:.6f} nats\n"
                               "perplexity  {:.6f}\n",
                               ids.size(), nll->size(), mean, std::exp(mean)));
}

}  // namespace

void add_score_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<ScoreOptions>();
  CLI::App& command = *app.add_subcommand("score", "Token NLL and perplexity of a text");
  CLI::App& input = *command.add_option_group("Input", "What to score; one of");
  input.add_option("-f,--file", options->file,
                   "Raw text; special tokens are recognised, the last newline counts (-: standard "
                   "input)");
  input.add_option("--prompt-ids", options->prompt_ids, "Token ids, separated by commas");
  input.require_option(1);
  add_model_options(command, &options->model);
  // It decodes nothing: no flags of speculation, and nothing to open for suffix.
  options->model.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  command.add_option("--window", options->window,
                     "Tokens read at once; longer texts are read in overlapping windows (default: "
                     "the context)");
  command.add_option("--stride", options->stride,
                     "New tokens in each window after the first (default: half the window)");
  command.add_option("--against", options->against,
                     "Compare with this model folder, which the model was quantised from: KL, "
                     "equal choices, both perplexities (docs/quantize.md)");
  command.add_flag("--tokens", options->tokens, "Print the NLL of every token");
  command.add_flag("--json", options->json,
                   "Print one JSON object, with the NLL of every token; with --against it has the "
                   "figures of the comparison alone");
  command.callback([options, exit_code] {
    const Status status = score(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
