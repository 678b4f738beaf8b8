// A trained net as a drafter's folder.
#pragma once

#include <string>

#include "base/result.h"
#include "train/drafter_files.h"
#include "train/drafter_net.h"

namespace ultraspeed::train {

// What training keeps is rounded here: vectors, the mask embedding and the selector to BF16,
// other matrices to `format`. REQUIRES: the net has a mask embedding.
Status export_drafter(const DrafterNet& net, const std::string& directory, LinearFormat format);

// Of the files' tensors and the mask embedding, without config.json.
uint64_t exported_bytes(const DrafterNet& net, LinearFormat format);

}  // namespace ultraspeed::train
