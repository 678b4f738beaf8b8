#include "train/records.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::train {
void append_model_name(std::string* record, std::string_view name) {
  US_CHECK(name.size() < kModelNameBytes, "a model's name of {} bytes", name.size());
  record->append(name);
  record->append(kModelNameBytes - name.size(), '\0');
}

std::string model_name_at(std::span<const std::byte> record, size_t at) {
  const auto field = record.subspan(at, kModelNameBytes);
  const auto end = std::find(field.begin(), field.end(), std::byte{0});
  return {reinterpret_cast<const char*>(field.data()), static_cast<size_t>(end - field.begin())};
}

}  // namespace ultraspeed::train
