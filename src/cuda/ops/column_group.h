// Columns of a step that the fast kernels take at a time: as many as their operands have room for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/view.h"
#include "tensor/host_device.h"

namespace ultraspeed::cuda {

// Part of a launch; buffers are those of the step.
struct ColumnGroup {
  uint32_t columns = 8;                   // of the operands: 8, 16, 32 or 64
  uint32_t first_column = 0;              // of the step: the operands' column 0
  const uint32_t* num_columns = nullptr;  // device, of the step; nullptr: all of the operands exist
};

// How many of the operands' columns the step has. Reads device memory.
US_HOST_DEVICE inline uint32_t present_columns(const ColumnGroup& group) {
  if (group.num_columns == nullptr) return group.columns;
  const uint32_t all = *group.num_columns;
  const uint32_t behind = all > group.first_column ? all - group.first_column : 0;
  return behind < group.columns ? behind : group.columns;
}

inline constexpr uint32_t kMaxGroupColumns = 64;

// Steps of up to `width` columns, 64 at a time; the operands of the last ones are as narrow as they
// can be. step: device.
inline std::vector<ColumnGroup> column_groups(uint32_t width, const StepView* step) {
  std::vector<ColumnGroup> groups;
  for (uint32_t first = 0; first < width; first += kMaxGroupColumns) {
    ColumnGroup group;
    while (group.columns < std::min(width - first, kMaxGroupColumns)) group.columns *= 2;
    group.first_column = first;
    group.num_columns = &step->num_columns;
    groups.push_back(group);
  }
  return groups;
}

}  // namespace ultraspeed::cuda
