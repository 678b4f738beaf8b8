// Whether a model will run on this machine, as `inspect` says it: what it takes of the processor's
// and the GPU's memory, before anything is loaded.
#pragma once

#include <string>

#include "apps/loaded_model.h"
#include "apps/model_folder.h"

namespace ultraspeed::apps {

// A line for the processor, and one for the GPU where there is one: for one session of the
// options' context, in their ranks and modes.
std::string outlook(const ModelFolder& folder, const ModelOptions& options);

}  // namespace ultraspeed::apps
