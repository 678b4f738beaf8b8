// Fuzzes what a hub says of a repository: any text is refused, or lists files that stay inside.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "hub/listing.h"
#include "hub/reference.h"

namespace hub = ultraspeed::hub;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto reference = hub::parse_reference(text)) {
    US_CHECK(hub::is_inside_path(reference->id), "{}", reference->id);
    US_CHECK(hub::parse_reference(reference->text()).has_value(), "{}", reference->text());
  }
  const auto listing = hub::parse_listing("fuzz", text);
  if (!listing) return 0;
  US_CHECK(hub::is_commit(listing->commit), "{}", listing->commit);
  for (const hub::RepositoryFile& file : listing->files) {
    US_CHECK(hub::is_inside_path(file.path), "{}", file.path);
    if (file.blob) US_CHECK(hub::parse_blob_name(file.blob->hex), "{}", file.blob->hex);
  }
  US_CHECK(hub::choose_files(*listing, {}).size() <= listing->files.size());
  return 0;
}
