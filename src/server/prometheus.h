// Metrics in Prometheus' text format, version 0.0.4.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::server {

inline constexpr std::string_view kPrometheusContentType =
    "text/plain; version=0.0.4; charset=utf-8";

class Histogram {
 public:
  // Upper bounds, ascending, which outlive it; what is above the last has a bucket, too.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(bounds.size() + 1) {}

  void observe(double value, uint64_t count = 1);

  std::span<const double> bounds() const { return bounds_; }
  std::span<const uint64_t> counts() const { return counts_; }  // [bounds + 1], not cumulative
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

struct Label {
  std::string_view name;
  std::string_view value;  // any text
};

// Writes families one after the other.
class PrometheusText {
 public:
  // Every name begins with `prefix`, and every sample has this label.
  PrometheusText(std::string prefix, const Label& label);

  void gauge(std::string_view name, std::string_view help, double value);
  void counter(std::string_view name, std::string_view help, uint64_t value);
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram);

  // The samples of a family that has several follow by sample().
  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(std::string_view name, std::span<const Label> labels, double value);

  std::string take() { return std::move(text_); }

 private:
  const std::string prefix_;
  const std::string label_;  // name="value"
  std::string text_;
};

}  // namespace ultraspeed::server
