// What a model argument means, for all commands: a folder, or ORG/NAME[@REVISION] of the local
// Hugging Face cache. A folder that exists is that folder, whatever else it could mean.
#pragma once

#include <string>

#include "base/result.h"

namespace ultraspeed::apps {

// The folder, without a '/' at its end; one that is not there and cannot be a name stays as it is.
// Errors: kNotFound for a name that the cache does not have, with where it was looked for and how
// to download it.
Result<std::string> find_folder(const std::string& argument);

// The same for a model, whose folder can be opened. Errors: those of find_folder() and
// check_model_folder().
Result<std::string> find_model_folder(const std::string& argument);

// What a model in this folder is called: ORG/NAME of the cache, else the folder's own name.
std::string model_name(const std::string& folder);

// To an error about something missing, how to download it, if the folder is one of the cache.
Error with_pull_advice(Error error, const std::string& folder);

}  // namespace ultraspeed::apps
