#include "quantize/error_feedback.h"

#include "base/check.h"
#include "quantize/triangular.h"

namespace ultraspeed::quantize {
namespace {

using tensor::kMxBlockColumns;

void damp(double damping, size_t columns, std::vector<double>* squares) {
  double sum = 0;
  for (size_t i = 0; i < columns; ++i) sum += (*squares)[i * columns + i];
  // Any H without inputs will do.
  const double added = sum == 0 ? 1 : damping * sum / static_cast<double>(columns);
  for (size_t i = 0; i < columns; ++i) (*squares)[i * columns + i] += added;
}

}  // namespace

std::optional<ErrorFeedback> make_feedback(uint32_t num_threads, double damping, uint32_t columns,
                                           std::vector<double>* squares) {
  US_CHECK(columns % kMxBlockColumns == 0 && squares->size() == size_t{columns} * columns,
           "{} columns, {} values", columns, squares->size());
  damp(damping, columns, squares);
  if (!factor_upper(num_threads, columns, squares->data())) return std::nullopt;
  ErrorFeedback feedback{.columns = columns, .panels = {}};
  feedback.panels.reserve(ErrorFeedback::num_values(columns));
  for (size_t first = 0; first < columns; first += kMxBlockColumns) {
    const size_t end = first + kMxBlockColumns;
    for (size_t j = 0; j < end; ++j) {
      for (size_t k = first; k < end; ++k) {
        const double share = (*squares)[j * columns + k] / (*squares)[k * columns + k];
        feedback.panels.push_back(j < k ? static_cast<float>(share) : 0.0F);
      }
    }
  }
  return feedback;
}

}  // namespace ultraspeed::quantize
