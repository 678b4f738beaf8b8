// A net that begins with the weights of a drafter's folder.
#pragma once

#include <string>

#include "base/result.h"
#include "train/drafter_net.h"

namespace ultraspeed::train {

// Sets the net's parameters from model.safetensors and mask_embedding.pt. A selector that the
// folder has not stays as it is; one that the net has not is left out. Errors: kInvalidArgument for
// a drafter of another shape.
Status import_drafter(const std::string& directory, DrafterNet* net);

}  // namespace ultraspeed::train
