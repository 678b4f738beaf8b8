// A loaded model as a server takes it.
#pragma once

#include <string>

#include "apps/loaded_model.h"
#include "base/result.h"
#include "engine/engine.h"
#include "server/server.h"

namespace ultraspeed::apps {

// `name`: what clients call it; empty: its folder's. Errors: kNotFound (it has no tokenizer).
// REQUIRES: the options have opened both, which outlive the result.
Result<server::ServedModel> make_served_model(std::string name, const ModelOptions& options,
                                              const LoadedModel& model, engine::Engine& engine);

}  // namespace ultraspeed::apps
