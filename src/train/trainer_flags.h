// The flags of a training run, `--name value`; docs/training.md lists them with their defaults.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "train/trainer_options.h"

namespace ultraspeed::train {

// Errors: kInvalidArgument for an unknown flag, a value that is none, and for what is missing.
Result<TrainerOptions> parse_trainer_flags(std::span<const std::string> arguments);

// A line a flag, with its default.
std::string trainer_flags_help();

// Parses, trains and prints lines; the exit code: 0 for a run that ended or stopped in time.
int train_drafter(std::span<const std::string> arguments);

}  // namespace ultraspeed::train
