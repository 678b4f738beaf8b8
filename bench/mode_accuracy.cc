// mode_accuracy: what the arithmetic modes cost on the bundled model (docs/numerics.md section 11).
// The model writes texts by sampling in f32; then every mode reads them and f32 with it, and the
// distributions of each next token over the whole vocabulary are compared.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "apps/executor_choice.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/mode_model.h"
#include "apps/mode_statistics.h"
#include "apps/terminal.h"
#include "golden/golden_case.h"
#include "mode_texts.h"

namespace ultraspeed {
namespace {

using apps::Distribution;
using apps::Mode;
using apps::ModeModel;
using apps::Statistics;
using nlohmann::ordered_json;

struct Options {
  TextOptions texts{.num_tokens = 100'000, .text_tokens = 640, .seed = 1, .num_threads = 0};
  std::vector<std::string> modes = {"int8",    "w4a16",     "w4a8",    "f32:bf16",
                                    "f32:fp8", "w4a8:bf16", "w4a8:fp8"};
  std::string json;
};

// "w4a8", or with the KV cache's type, "w4a8:fp8".
Result<Mode> parse_mode(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string activations = text.substr(0, colon);
  const std::string kv_cache = colon == text.size() ? "f32" : text.substr(colon + 1);
  for (const auto a : program::kAllActivations) {
    for (const auto k : program::kAllKvCacheTypes) {
      if (program::activations_name(a) != activations ||
          program::kv_cache_type_name(k) != kv_cache) {
        continue;
      }
      return Mode{a, k};
    }
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "--modes {}: expected ACTIVATIONS or ACTIVATIONS:KV_CACHE, as in w4a8:fp8",
                    text);
}

// Says how far a long loop is: on a terminal always, elsewhere a line for each tenth.
class Counter {
 public:
  Counter(std::string label, size_t total) : label_(std::move(label)), total_(total) {}

  void show(size_t done) {
    const std::string text = fmt::format("{} {} of {} tokens", label_, done, total_);
    line_.show(text);
    if (isatty(STDERR_FILENO) != 0 || done * 10 < total_ * next_tenth_) return;
    apps::write_to_stderr(text + "\n");
    while (done * 10 >= total_ * next_tenth_) ++next_tenth_;
  }

 private:
  std::string label_;
  size_t total_, next_tenth_ = 1;
  apps::PassingLine line_;
};

// What is known of each scored token, texts one behind the other.
struct Scores {
  std::vector<double> exact_nll;                                   // [tokens]
  std::vector<std::vector<Distribution::Difference>> differences;  // [modes][tokens]
};

// The models of one thread: f32 and the modes.
struct Models {
  std::vector<ModeModel> all;  // [1 + modes]
};

Result<Models> open_models(const apps::LoadedModel& model, const std::vector<Mode>& modes,
                           uint32_t max_tokens) {
  Models models;
  US_ASSIGN(auto exact, ModeModel::open(model, {}, max_tokens));
  models.all.push_back(std::move(exact));
  for (const Mode& mode : modes) {
    US_ASSIGN(auto rounded, ModeModel::open(model, mode, max_tokens));
    models.all.push_back(std::move(rounded));
  }
  return models;
}

// Scores a text into places from `offset` on.
Status score(const KnownText& text, size_t offset, Models* models, Scores* scores) {
  const uint32_t last = static_cast<uint32_t>(text.tokens.size()) - 1;  // only predicted
  const size_t vocab_size = models->all[0].vocab_size();
  for (uint32_t begin = 0; begin < last; begin += models->all[0].width()) {
    const uint32_t count = std::min(last - begin, models->all[0].width());
    const auto tokens = std::span(text.tokens).subspan(begin, count);
    std::vector<std::span<const float>> logits;
    for (ModeModel& model : models->all) {
      US_ASSIGN(logits.emplace_back(), model.logits(tokens, begin));
    }
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t predicted = begin + i + 1;
      if (predicted < text.first) continue;
      const int32_t token = text.tokens[predicted];
      const size_t at = offset + predicted - text.first;
      const Distribution exact(logits[0].subspan(i * vocab_size, vocab_size));
      scores->exact_nll[at] = exact.nll(token);
      for (size_t mode = 0; mode + 1 < logits.size(); ++mode) {
        scores->differences[mode][at] =
            exact.compare(logits[mode + 1].subspan(i * vocab_size, vocab_size), token);
      }
    }
  }
  return {};
}

// Threads take texts in turn; each score has its place, so the result does not depend on them.
class Scoring {
 public:
  Scoring(const apps::LoadedModel& model, std::vector<Mode> modes, std::vector<KnownText> texts)
      : model_(model), modes_(std::move(modes)), texts_(std::move(texts)) {
    for (const KnownText& text : texts_) {
      offsets_.push_back(num_tokens_);
      num_tokens_ += text.num_scored();
      longest_ = std::max(longest_, static_cast<uint32_t>(text.tokens.size()));
    }
    scores_.exact_nll.resize(num_tokens_);
    scores_.differences.assign(modes_.size(), std::vector<Distribution::Difference>(num_tokens_));
  }

  Result<Scores> run(uint32_t num_threads) {
    Counter counter("Reading", num_tokens_);
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < num_threads; ++i) threads.emplace_back([&] { work(&counter); });
    for (std::thread& thread : threads) thread.join();
    if (!status_) return tl::unexpected(status_.error());
    return std::move(scores_);
  }

 private:
  void work(Counter* counter) {
    auto models = open_models(model_, modes_, longest_);
    if (!models) return finish(tl::unexpected(models.error()));
    for (size_t i = next_++; i < texts_.size(); i = next_++) {
      const Status status = score(texts_[i], offsets_[i], &*models, &scores_);
      if (!status) return finish(status);
      const std::lock_guard lock(mutex_);
      num_done_ += texts_[i].num_scored();
      counter->show(num_done_);
    }
  }

  void finish(Status status) {
    next_ = texts_.size();
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);
  }

  const apps::LoadedModel& model_;
  const std::vector<Mode> modes_;
  const std::vector<KnownText> texts_;
  std::vector<size_t> offsets_;  // of each text's first score
  size_t num_tokens_ = 0;
  uint32_t longest_ = 0;
  Scores scores_;
  std::atomic<size_t> next_ = 0;  // text
  std::mutex mutex_;              // of what follows
  Status status_;
  size_t num_done_ = 0;
};

void print_table(const std::vector<Mode>& modes, const std::vector<Statistics>& all,
                 double exact_nll) {
  fmt::print("{} tokens, mean NLL in f32 {:.6f}\n\n", all.front().num_tokens, exact_nll);
  fmt::print("{:<7} {:<5} {:>10} {:>10} {:>10} {:>9} {:>10} {:>20}\n", "mode", "KV", "mean KL",
             "99.9 % KL", "largest KL", "top-1", "mean NLL", "NLL change");
  for (size_t i = 0; i < modes.size(); ++i) {
    const Statistics& s = all[i];
    fmt::print(
        "{:<7} {:<5} {:>10.3e} {:>10.3e} {:>10.3e} {:>7.3f} % {:>10.6f} {:>10.2e} +-{:>8.1e}\n",
        program::activations_name(modes[i].activations),
        program::kv_cache_type_name(modes[i].kv_cache), s.kl_mean, s.kl_999, s.kl_max,
        100 * s.agreement, s.nll_mean, s.nll_change, s.nll_change_error);
  }
}

ordered_json result_json(const Options& options, const std::vector<Mode>& modes,
                         const std::vector<Statistics>& all, double exact_nll) {
  ordered_json results = ordered_json::array();
  for (size_t i = 0; i < modes.size(); ++i) {
    const Statistics& s = all[i];
    results.push_back({{"activations", program::activations_name(modes[i].activations)},
                       {"kv_cache", program::kv_cache_type_name(modes[i].kv_cache)},
                       {"kl_mean", s.kl_mean},
                       {"kl_999", s.kl_999},
                       {"kl_max", s.kl_max},
                       {"top1_agreement", s.agreement},
                       {"mean_nll", s.nll_mean},
                       {"nll_change", s.nll_change},
                       {"nll_change_error", s.nll_change_error}});
  }
  return {{"tokens", all.front().num_tokens},
          {"text_tokens", options.texts.text_tokens},
          {"seed", options.texts.seed},
          {"mean_nll_f32", exact_nll},
          {"modes", std::move(results)}};
}

Status measure(const Options& options) {
  std::vector<Mode> modes;
  for (const std::string& text : options.modes) {
    US_ASSIGN(modes.emplace_back(), parse_mode(text));
  }
  US_ASSIGN(const auto model, apps::LoadedModel::open({}));
  std::vector<KnownText> golden;
  for (const test::GoldenCase& text : test::tiny_mimo_cases()) {
    auto& known = golden.emplace_back(
        KnownText{text.prompt_ids, static_cast<uint32_t>(text.prompt_ids.size())});
    known.tokens.insert(known.tokens.end(), text.greedy_ids.begin(), text.greedy_ids.end());
  }
  TextOptions text_options = options.texts;
  if (text_options.num_threads == 0) text_options.num_threads = apps::default_threads();
  Counter writing("Writing", text_options.num_tokens);
  US_ASSIGN(auto texts,
            known_texts(model, golden, text_options, [&](size_t count) { writing.show(count); }));
  US_ASSIGN(const Scores scores,
            Scoring(model, modes, std::move(texts)).run(text_options.num_threads));
  std::vector<Statistics> all;
  for (const auto& differences : scores.differences) {
    all.push_back(apps::statistics_of(differences, scores.exact_nll));
  }
  const double exact_nll = all.front().nll_mean - all.front().nll_change;
  print_table(modes, all, exact_nll);
  if (options.json.empty()) return {};
  return apps::write_file(options.json, result_json(options, modes, all, exact_nll).dump(1) + "\n");
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  Options options;
  CLI::App app("What the arithmetic modes cost on the bundled model.", "mode_accuracy");
  app.add_option("--tokens", options.texts.num_tokens, "Tokens to compare (default: 100000)");
  app.add_option("--length", options.texts.text_tokens, "Tokens of a text (default: 640)")
      ->check(CLI::Range(2, 4096));
  app.add_option("--seed", options.texts.seed, "Other texts (default: 1)");
  app.add_option("--threads", options.texts.num_threads, "Default: one per processor");
  app.add_option("--modes", options.modes,
                 "ACTIVATIONS or ACTIVATIONS:KV_CACHE, separated by commas")
      ->delimiter(',');
  app.add_option("--json", options.json, "A file for the results as JSON");
  CLI11_PARSE(app, argc, argv);
  const Status status = measure(options);
  return status ? 0 : apps::report_error(status.error());
}
