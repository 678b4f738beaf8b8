// libFuzzer entry: archives for `report check`; what the reader takes is written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "apps/report_archive.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace apps = ultraspeed::apps;
  const std::string_view archive(reinterpret_cast<const char*>(data), size);
  const auto files = apps::read_tar(archive, "fuzz.tar");
  if (!files) return 0;
  const auto again = apps::read_tar(apps::write_tar(*files), "again.tar");
  US_CHECK(again.has_value() && again->size() == files->size());
  for (size_t i = 0; i < files->size(); ++i) {
    US_CHECK((*again)[i].name == (*files)[i].name && (*again)[i].contents == (*files)[i].contents);
  }
  const auto check = apps::check_report(archive, "fuzz.tar");
  US_CHECK(!check.has_value() || check->num_runs > 0 || !check->difference.empty());
  return 0;
}
