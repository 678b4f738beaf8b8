#include "apps/load_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/bench_result.h"
#include "apps/text_table.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kApiKeyFlag = "--api-key";

struct Quantity {
  std::string_view key;
  std::string_view name;
  std::vector<double> LoadFigures::*values;
};

constexpr Quantity kQuantities[] = {
    {"first_token_ms", "time to first token, ms", &LoadFigures::first_token_ms},
    {"ms_per_token", "time per output token, ms", &LoadFigures::ms_per_token},
    {"inter_event_ms", "between events, ms", &LoadFigures::inter_event_ms},
    {"end_to_end_ms", "end to end, ms", &LoadFigures::end_to_end_ms},
    {"stream_tokens_per_second", "tokens/s of a stream", &LoadFigures::stream_tokens_per_second},
    {"accepted_length", "accepted length", &LoadFigures::accepted_length},
};

void add_request(const RequestSample& request, LoadFigures* figures) {
  ++figures->num_succeeded;
  figures->prompt_tokens += request.prompt_tokens;
  figures->tokens += request.tokens;
  figures->end_to_end_ms.push_back(1000 * request.end_s);
  const std::vector<double>& events = request.event_s;
  if (request.accepted_length) {
    ++figures->num_server_lengths;
    figures->accepted_length.push_back(*request.accepted_length);
  } else if (events.size() > 1 && request.tokens > 1) {
    figures->accepted_length.push_back(static_cast<double>(request.tokens - 1) /
                                       static_cast<double>(events.size() - 1));
  }
  if (events.empty()) return;  // nothing but a stop token
  figures->first_token_ms.push_back(1000 * events.front());
  for (size_t i = 1; i < events.size(); ++i) {
    figures->inter_event_ms.push_back(1000 * (events[i] - events[i - 1]));
  }
  const double decode_s = request.last_s - events.front();
  if (request.tokens < 2 || decode_s <= 0) return;
  const auto num_tokens = static_cast<double>(request.tokens - 1);
  figures->ms_per_token.push_back(1000 * decode_s / num_tokens);
  figures->stream_tokens_per_second.push_back(num_tokens / decode_s);
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

std::string figure_text(double value) {
  return value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3f}", value);
}

std::string length_source(const LoadFigures& figures) {
  if (figures.num_server_lengths == 0) return "tokens an event";
  const bool has_all = figures.num_server_lengths == figures.accepted_length.size();
  return has_all ? "as the server says" : "as the server says, else tokens an event";
}

ordered_json distribution_json(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  return {{"count", values.size()},        {"mean", mean_of(values)},
          {"p50", quantile(values, 0.5)},  {"p90", quantile(values, 0.9)},
          {"p99", quantile(values, 0.99)}, {"max", std::ranges::max(values)}};
}

double rounded_ms(double seconds) {
  return std::round(seconds * 1e6) / 1e3;
}

ordered_json request_json(const RequestSample& request) {
  ordered_json json = {{"prompt", request.prompt}, {"sent_ms", rounded_ms(request.sent_s)}};
  if (!request.failure.empty()) {
    json["failure"] = request.failure;
    json["failure_text"] = request.failure_text;
  }
  ordered_json events = ordered_json::array();
  for (const double event_s : request.event_s) events.push_back(rounded_ms(event_s));
  json["event_ms"] = std::move(events);
  json["last_ms"] = rounded_ms(request.last_s);
  json["end_ms"] = rounded_ms(request.end_s);
  json["prompt_tokens"] = request.prompt_tokens;
  json["tokens"] = request.tokens;
  if (request.accepted_length) json["accepted_length"] = *request.accepted_length;
  return json;
}

std::string describe_load(const LoadOptions& options) {
  std::string text = options.concurrency == 0
                         ? "any number at once"
                         : fmt::format("at most {} at once", options.concurrency);
  if (options.rate > 0) text += fmt::format(", {:g} arrivals/s", options.rate);
  return text;
}

}  // namespace

LoadFigures load_figures(const LoadRun& run) {
  LoadFigures figures;
  for (const RequestSample& request : run.requests) {
    if (request.failure.empty()) {
      add_request(request, &figures);
      continue;
    }
    LoadFigures::Failure& failure = figures.failures[request.failure];
    if (failure.count++ == 0) failure.text = request.failure_text;
  }
  if (run.duration_s > 0) {
    figures.tokens_per_second = static_cast<double>(figures.tokens) / run.duration_s;
    figures.requests_per_second = static_cast<double>(figures.num_succeeded) / run.duration_s;
  }
  return figures;
}

std::vector<std::string> without_api_key(std::vector<std::string> command) {
  for (size_t i = 0; i < command.size(); ++i) {
    if (command[i] == kApiKeyFlag && i + 1 < command.size()) command[i + 1] = "...";
    if (command[i].starts_with(fmt::format("{}=", kApiKeyFlag))) {
      command[i] = fmt::format("{}=...", kApiKeyFlag);
    }
  }
  return command;
}

std::string load_text(const LoadReport& report) {
  const LoadFigures& figures = report.figures;
  const LoadOptions& options = report.options;
  std::string text = fmt::format(
      "{} at {}, {}: {} requests of {} prompts, up to {} tokens each, {}\n\n", options.model,
      report.url, endpoint_name(options.endpoint), report.run.requests.size(), report.num_prompts,
      options.max_tokens, describe_load(options));
  TextTable table;
  table.head = {"", "mean", "p50", "p90", "p99", "max"};
  for (const Quantity& quantity : kQuantities) {
    const std::vector<double>& values = figures.*quantity.values;
    if (values.empty()) {
      table.rows.push_back({std::string(quantity.name), "-"});
      continue;
    }
    table.rows.push_back({std::string(quantity.name), figure_text(mean_of(values)),
                          figure_text(quantile(values, 0.5)), figure_text(quantile(values, 0.9)),
                          figure_text(quantile(values, 0.99)),
                          figure_text(std::ranges::max(values))});
  }
  text += plain_table(table);
  text += fmt::format(
      "\n{} prompt tokens, {} tokens in {:.2f} s: {:.1f} tokens/s and {:.2f} requests/s of all "
      "streams.\nTokens are those that the server counts; accepted length: {}.\n",
      figures.prompt_tokens, figures.tokens, report.run.duration_s, figures.tokens_per_second,
      figures.requests_per_second, length_source(figures));
  for (const auto& [kind, failure] : figures.failures) {
    text += fmt::format("{} of {} requests failed: {}: {}\n", failure.count,
                        report.run.requests.size(), kind, failure.text);
  }
  return text;
}

ordered_json load_json(const LoadReport& report) {
  const LoadFigures& figures = report.figures;
  const LoadOptions& options = report.options;
  ordered_json distributions, failures = ordered_json::object(), requests = ordered_json::array();
  for (const Quantity& quantity : kQuantities) {
    distributions[std::string(quantity.key)] = distribution_json(figures.*quantity.values);
  }
  for (const auto& [kind, failure] : figures.failures) {
    failures[kind] = {{"count", failure.count}, {"text", failure.text}};
  }
  for (const RequestSample& request : report.run.requests) {
    requests.push_back(request_json(request));
  }
  return {{"schema", kLoadRunSchema},
          {"version", report.made_by.version},
          {"commit", report.made_by.commit},
          {"command", report.made_by.command},
          {"url", report.url},
          {"endpoint", endpoint_name(options.endpoint)},
          {"model", options.model},
          {"num_prompts", report.num_prompts},
          {"concurrency", options.concurrency},
          {"rate", options.rate},
          {"seed", options.seed},
          {"max_tokens", options.max_tokens},
          {"temperature", options.temperature},
          {"ignore_eos", options.ignore_eos},
          {"duration_s", report.run.duration_s},
          {"succeeded", figures.num_succeeded},
          {"failures", std::move(failures)},
          {"prompt_tokens", figures.prompt_tokens},
          {"tokens", figures.tokens},
          {"tokens_per_second", figures.tokens_per_second},
          {"requests_per_second", figures.requests_per_second},
          {"server_accepted_lengths", figures.num_server_lengths},
          {"figures", std::move(distributions)},
          {"requests", std::move(requests)}};
}

}  // namespace ultraspeed::apps
