// Where the user's Hugging Face cache is and how its hub is asked, by the variables that Hugging
// Face's own tools read.
#pragma once

#include <string>

#include "base/result.h"
#include "hub/client.h"

namespace ultraspeed::apps {

// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub.
std::string hub_cache_folder();

// HF_ENDPOINT (https://huggingface.co), and the token of HF_TOKEN or of the file that 'hf auth
// login' writes. Errors: kInvalidArgument for a URL or a token that is none, and where
// HF_HUB_OFFLINE forbids it.
Result<hub::ClientOptions> hub_client_options();

}  // namespace ultraspeed::apps
