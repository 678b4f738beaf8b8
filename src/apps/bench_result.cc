#include "apps/bench_result.h"

#include <algorithm>
#include <cmath>

#include "apps/text_loops.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

template <class Value>
double median_of(const std::vector<DecodePass>& passes, Value value) {
  std::vector<double> values;
  for (const DecodePass& pass : passes) values.push_back(value(pass));
  return median(std::move(values));
}

double median_step_ms(const std::vector<DecodePass>& passes, double engine::DecodeTimes::*part) {
  return median_of(passes, [part](const DecodePass& pass) {
    return 1000 * pass.times.*part / static_cast<double>(pass.times.num_steps);
  });
}

template <class Rate>
double median_ratio(const BenchResult& result, const BenchResult& base, Rate rate) {
  US_CHECK(result.passes.size() == base.passes.size(), "{} passes, {} of the base",
           result.passes.size(), base.passes.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < result.passes.size(); ++i) {
    const double of_base = rate(base.passes[i]).tokens_per_second();
    if (of_base == 0) return 0;
    ratios.push_back(rate(result.passes[i]).tokens_per_second() / of_base);
  }
  return median(std::move(ratios));
}

}  // namespace

double median(std::vector<double> values) {
  US_CHECK(!values.empty());
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

double quantile(std::vector<double> values, double share) {
  US_CHECK(!values.empty());
  std::ranges::sort(values);
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - std::floor(at)) * (values[above] - values[below]);
}

double BenchResult::tokens_per_second() const {
  return median_of(passes, [](const DecodePass& pass) { return pass.rate.tokens_per_second(); });
}

double BenchResult::draft_ms() const {
  return median_step_ms(passes, &engine::DecodeTimes::draft_s);
}

double BenchResult::verify_ms() const {
  return median_step_ms(passes, &engine::DecodeTimes::verify_s);
}

double BenchResult::other_ms() const {
  return median_step_ms(passes, &engine::DecodeTimes::other_s);
}

double BenchResult::cycle_ms() const {
  return median_of(passes, [](const DecodePass& pass) {
    return 1000 * pass.times.total_s() / static_cast<double>(pass.times.num_steps);
  });
}

double speedup(const BenchResult& result, const BenchResult& base) {
  return median_ratio(result, base, [](const DecodePass& pass) { return pass.rate; });
}

double prompt_speedup(const BenchResult& result, const BenchResult& base, size_t prompt) {
  return median_ratio(result, base,
                      [prompt](const DecodePass& pass) { return pass.prompt_rates.at(prompt); });
}

TextSpread text_spread(const BenchResult& result) {
  const DecodePass& pass = result.passes.front();
  TextSpread spread;
  engine::SpeculationStats without_loops;
  for (size_t i = 0; i < pass.texts.size(); ++i) {
    const engine::SpeculationStats& stats = pass.prompt_speculation[i];
    spread.highest = std::max(spread.highest, stats.accepted_length());
    if (ends_in_loop(pass.texts[i])) {
      ++spread.num_loops;
    } else {
      without_loops.add(stats);
    }
  }
  spread.length_without_loops = without_loops.accepted_length();
  return spread;
}

const BenchResult& BenchReport::base_of(const BenchResult& result) const {
  const auto is_beside = [&](const BenchResult& other) {
    return other.streams == result.streams && other.block == result.block;
  };
  return *std::ranges::find_if(results, is_beside);
}

}  // namespace ultraspeed::apps
