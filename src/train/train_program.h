// What the training programs have in common: flags to a run, errors to a line and an exit code.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "base/result.h"

namespace ultraspeed::train {

// Opens a trainer and runs it, printing lines; the exit code: 0 for a run that ended or stopped in
// time. `command` stands before errors.
template <class Trainer, class Options>
int run_trainer(const char* command, const Result<Options>& options) {
  const auto print = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  const auto fail = [command](const Error& error) {
    fmt::print(stderr, "{}: {}\n", command, error.message);
    return 1;
  };
  if (!options) return fail(options.error());
  const auto trainer = Trainer::open(*options, print);
  if (!trainer) return fail(trainer.error());
  const Result<bool> is_complete = (*trainer)->run();
  return is_complete ? 0 : fail(is_complete.error());
}

}  // namespace ultraspeed::train
