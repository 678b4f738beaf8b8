// What `bench decode` prints.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "apps/bench_result.h"
#include "apps/drafter_option.h"
#include "apps/executor_choice.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

std::string speed_table(const BenchReport& report) {
  const std::string base = fmt::format("x {}", report.results.front().drafter);
  std::string text =
      fmt::format("{:>7} {:>5}  {:<12} {:>9} {:>10} {:>8} {:>8}  {:>8} {:>8} {:>8} {:>8}\n",
                  "streams", "block", "drafter", "tokens/s", "per stream", base, "accepted",
                  "cycle ms", "draft", "verify", "other");
  for (const BenchResult& result : report.results) {
    const double rate = result.tokens_per_second();
    text += fmt::format(
        "{:>7} {:>5}  {:<12} {:>9.1f} {:>10.1f} {:>8.2f} {:>8.2f}  {:>8.3f} {:>8.3f} {:>8.3f} "
        "{:>8.3f}\n",
        result.streams, result.block, result.drafter, rate, rate / result.streams,
        speedup(result, report.base_of(result)), result.speculation().accepted_length(),
        result.cycle_ms(), result.draft_ms(), result.verify_ms(), result.other_ms());
  }
  return text;
}

std::string percent_list(std::span<const double> shares) {
  std::string text;
  for (const double value : shares) text += fmt::format(" {:>4.0f}", 100 * value);
  return text;
}

std::string acceptance_table(const BenchReport& report) {
  std::string text;
  for (const BenchResult& result : report.results) {
    const engine::SpeculationStats& stats = result.speculation();
    if (!stats.has_drafts()) continue;
    if (text.empty()) {
      text =
          "\nPer cent of the cycles that gave 1, 2, ... tokens, and of the drafts at position "
          "1, 2, ... that were accepted\n";
    }
    const std::string name =
        fmt::format("{:>7} {:>5}  {:<12}", result.streams, result.block, result.drafter);
    text += fmt::format("{} cycles{}\n", name, percent_list(stats.length_shares()));
    text += fmt::format("{} drafts     {}\n", name, percent_list(stats.acceptance()));
  }
  return text;
}

std::string spread_table(const BenchReport& report) {
  std::string text;
  for (const BenchResult& result : report.results) {
    if (!result.speculation().has_drafts()) continue;
    const TextSpread spread = text_spread(result);
    if (text.empty()) {
      text = "\nAccepted length without texts that end in a loop, and the highest of a text\n";
    }
    text += fmt::format("{:>7} {:>5}  {:<12} {:>5.2f} ({} texts) {:>5.2f}\n", result.streams,
                        result.block, result.drafter, spread.length_without_loops,
                        report.prompts.size() - spread.num_loops, spread.highest);
  }
  return text;
}

std::string prompt_table(const BenchReport& report) {
  std::string text;
  for (const BenchResult& result : report.results) {
    const BenchResult& base = report.base_of(result);
    if (result.streams != 1 || &result == &base) continue;
    text += fmt::format("\nBy prompt: {} with block {} against {}\n", result.drafter, result.block,
                        base.drafter);
    for (size_t i = 0; i < report.prompts.size(); ++i) {
      text += fmt::format("{:>8.2f}  {} ({} tokens)\n", prompt_speedup(result, base, i),
                          report.prompts[i].name, result.passes.front().texts[i].size());
    }
  }
  return text;
}

ordered_json prompts_json(const BenchReport& report, const BenchResult& result) {
  ordered_json prompts = ordered_json::array();
  if (result.streams != 1) return prompts;
  for (size_t i = 0; i < report.prompts.size(); ++i) {
    prompts.push_back({{"name", report.prompts[i].name},
                       {"tokens", result.passes.front().texts[i].size()},
                       {"speedup", prompt_speedup(result, report.base_of(result), i)}});
  }
  return prompts;
}

ordered_json result_json(const BenchReport& report, const BenchResult& result) {
  const engine::SpeculationStats& stats = result.speculation();
  ordered_json rates = ordered_json::array();
  for (const DecodePass& pass : result.passes) rates.push_back(pass.rate.tokens_per_second());
  const double rate = result.tokens_per_second();
  const TextSpread spread = text_spread(result);
  return {{"drafter", result.drafter},
          {"block", result.block},
          {"streams", result.streams},
          {"tokens_per_second", rate},
          {"tokens_per_second_per_stream", rate / result.streams},
          {"tokens_per_second_of_repeats", std::move(rates)},
          {"speedup", speedup(result, report.base_of(result))},
          {"cycles", stats.num_cycles()},
          {"resident_cycles", stats.num_resident()},
          {"accepted_length", stats.accepted_length()},
          {"texts_with_loops", spread.num_loops},
          {"accepted_length_without_loops", spread.length_without_loops},
          {"highest_accepted_length", spread.highest},
          {"cycles_by_length", std::vector(stats.lengths().begin(), stats.lengths().end())},
          {"per_position", stats.acceptance()},
          {"cycle_ms",
           {{"draft", result.draft_ms()},
            {"verify", result.verify_ms()},
            {"other", result.other_ms()},
            {"total", result.cycle_ms()}}},
          {"prompts", prompts_json(report, result)}};
}

}  // namespace

std::string bench_device(const BenchReport& report) {
  if (report.threads == 0) return report.processor;
  return fmt::format("{} ({} threads)", report.processor, report.threads);
}

std::string bench_tables(const BenchReport& report, bool per_prompt) {
  const std::string sampling =
      report.temperature == 0 ? "greedy"
                              : fmt::format("temperature {}, acceptance {}", report.temperature,
                                            acceptance_name(report.acceptance));
  std::string text = fmt::format(
      "{}, {} prompts, up to {} tokens each, {}; median of {}; {}, {}\n\n", report.model,
      report.prompts.size(), report.max_tokens, sampling, report.results.front().passes.size(),
      bench_device(report), mode_text(report.modes));
  text += speed_table(report) + acceptance_table(report) + spread_table(report);
  if (per_prompt) text += prompt_table(report);
  return text;
}

std::string bench_json(const BenchReport& report) {
  ordered_json results = ordered_json::array();
  for (const BenchResult& result : report.results) results.push_back(result_json(report, result));
  const ordered_json json = {{"schema", kDecodeRunSchema},
                             {"version", report.made_by.version},
                             {"commit", report.made_by.commit},
                             {"command", report.made_by.command},
                             {"model", report.model},
                             {"processor", report.processor},
                             {"threads", report.threads},
                             {"num_prompts", report.prompts.size()},
                             {"max_tokens", report.max_tokens},
                             {"temperature", report.temperature},
                             {"acceptance", acceptance_name(report.acceptance)},
                             {"activations", program::activations_name(report.modes.activations)},
                             {"kv_cache", program::kv_cache_type_name(report.modes.kv_cache)},
                             {"dense_dtype", model::dense_dtype_name(report.modes.dense_dtype)},
                             {"repeat", report.results.front().passes.size()},
                             {"results", std::move(results)}};
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace ultraspeed::apps
