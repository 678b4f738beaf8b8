// What a checkpoint folder holds besides weights: tokenizer, templates, a drafter's folder.
#pragma once

#include <string>
#include <vector>

#include "base/output_folder.h"
#include "base/result.h"
#include "model/checkpoint.h"

namespace ultraspeed::quantize {

struct SideFiles {
  std::vector<std::string> copied;      // relative to the folder, sorted
  std::vector<std::string> not_copied;  // the same; folders end with '/'
};

// All files of the folder and of its dflash/ are copied, but those that are written anew, other
// forms of the weights (.bin, .pt, .gguf and the like), hidden ones and what is no file.
Result<SideFiles> list_side_files(const model::Checkpoint& checkpoint);

// Errors: kIo, with the path.
Status copy_side_files(const std::string& source, const SideFiles& files,
                       const OutputFolder& folder);

}  // namespace ultraspeed::quantize
