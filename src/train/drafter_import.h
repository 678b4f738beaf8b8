// A net that begins with the weights of a drafter's folder.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "train/drafter_net.h"

namespace ultraspeed::train {

// Sets the net's parameters from a folder that export_drafter wrote, and gives the checksum of what
// was read. A selector that the folder has not stays as it is; one that the net has not is left
// out. Errors: kNotFound, kInvalidArgument for a drafter of other shapes or another config.json,
// kInvalidData for what is no such file.
Result<uint64_t> import_drafter(const std::string& directory, DrafterNet* net);

}  // namespace ultraspeed::train
