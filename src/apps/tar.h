// Archives of plain files in POSIX ustar form (IEEE Std 1003.1, pax, "ustar Interchange Format"),
// as far as reports need them: any tar program unpacks what is written; what is read must have been
// written like this.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::apps {

struct TarFile {
  std::string name;  // relative, 1 to 100 printable characters
  std::string contents;
};

// The same bytes for the same files: no time, no owner. REQUIRES: names as above, contents below
// 8 GB.
std::string write_tar(const std::vector<TarFile>& files);

// Errors: kInvalidData, naming `label` and the byte: an archive that ends early or goes on after
// its end, a wrong checksum, anything but plain files, a name that is absolute, climbs with "..",
// or comes twice, more than 1,000 files.
Result<std::vector<TarFile>> read_tar(std::string_view archive, const std::string& label);

}  // namespace ultraspeed::apps
