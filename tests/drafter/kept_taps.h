// The inputs of a dense drafter, taken from a target's stages as it runs.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <vector>

#include "drafter/dense_drafter.h"
#include "program/step.h"
#include "support/stage_executor.h"

namespace ultraspeed::test {

// For a StageHook: after a tapped layer keeps the residual of every column at its position in
// rows_of(column), a Rows&.
template <class RowsOf>
void keep_taps(const DrafterOptions& options, const std::string& stage, StageValues* values,
               std::span<const program::Column> columns, RowsOf rows_of) {
  const uint32_t hidden_size = options.hidden_size;
  for (size_t i = 0; i < options.target_layer_ids.size(); ++i) {
    const std::string name = fmt::format("layers.{}.ffn_residual", options.target_layer_ids[i]);
    if (stage != name) continue;
    const std::span<float> residual = values->values(name);
    for (size_t t = 0; t < columns.size(); ++t) {
      Rows& rows = rows_of(columns[t]);
      const uint32_t position = columns[t].position;
      if (rows.size() <= position) rows.resize(position + 1);
      rows[position].resize(options.target_layer_ids.size() * hidden_size);
      for (uint32_t d = 0; d < hidden_size; ++d) {
        rows[position][i * hidden_size + d] = static_cast<double>(residual[t * hidden_size + d]);
      }
    }
  }
}

}  // namespace ultraspeed::test
