// A zip archive whose entries are stored, not compressed: the container of torch.save. Sizes and
// places come from the central directory alone, since the writer leaves them out of the local
// headers. Internal to model/.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::model {

// Entry name -> its bytes, which lie in `archive`. Errors: kInvalidData for a malformed archive,
// kUnsupported for compressed or encrypted entries and more than 64 of them.
using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;
Result<ZipEntries> read_stored_zip(std::string_view file, std::span<const std::byte> archive);

}  // namespace ultraspeed::model
