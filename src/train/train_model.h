// The program train_model: pretraining and quantisation-aware training of language models.
#pragma once

#include <span>
#include <string>

namespace ultraspeed::train {

// "pretrain" or "qat", then flags; the exit code.
int train_model(std::span<const std::string> arguments);

}  // namespace ultraspeed::train
