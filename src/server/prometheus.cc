#include "server/prometheus.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace ultraspeed::server {
namespace {

std::string label_text(const Label& label) {
  std::string text = fmt::format("{}=\"", label.name);
  for (const char c : label.value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

}  // namespace

void Histogram::observe(double value, uint64_t count) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)] += count;
  sum_ += value * static_cast<double>(count);
}

PrometheusText::PrometheusText(std::string prefix, const Label& label)
    : prefix_(std::move(prefix)), label_(label_text(label)) {}

void PrometheusText::family(std::string_view name, std::string_view type, std::string_view help) {
  fmt::format_to(std::back_inserter(text_), "# HELP {0}{1} {3}\n# TYPE {0}{1} {2}\n", prefix_, name,
                 type, help);
}

void PrometheusText::sample(std::string_view name, std::span<const Label> labels, double value) {
  fmt::format_to(std::back_inserter(text_), "{}{}{{{}", prefix_, name, label_);
  for (const Label& label : labels) {
    text_ += ',';
    text_ += label_text(label);
  }
  fmt::format_to(std::back_inserter(text_), "}} {}\n", value);
}

void PrometheusText::gauge(std::string_view name, std::string_view help, double value) {
  family(name, "gauge", help);
  sample(name, {}, value);
}

void PrometheusText::counter(std::string_view name, std::string_view help, uint64_t value) {
  family(name, "counter", help);
  sample(name, {}, static_cast<double>(value));
}

void PrometheusText::histogram(std::string_view name, std::string_view help,
                               const Histogram& histogram) {
  family(name, "histogram", help);
  const std::string bucket_name = fmt::format("{}_bucket", name);
  uint64_t count = 0;
  for (size_t i = 0; i < histogram.counts().size(); ++i) {
    count += histogram.counts()[i];
    const bool is_last = i == histogram.bounds().size();
    const std::string bound = is_last ? "+Inf" : fmt::format("{}", histogram.bounds()[i]);
    sample(bucket_name, std::array{Label{"le", bound}}, static_cast<double>(count));
  }
  sample(fmt::format("{}_sum", name), {}, histogram.sum());
  sample(fmt::format("{}_count", name), {}, static_cast<double>(count));
}

}  // namespace ultraspeed::server
