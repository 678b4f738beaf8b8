// Which stages of a measured step run as general loops (ops/stage.h) although its mode has kernels
// of their own for such stages, and why: shapes that those kernels do not take.
#pragma once

#include <string>

#include "cuda/bench/step_program.h"
#include "cuda/machine_options.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// For people; "" for a stage that has a kernel of its own, or that none is made for in this mode.
// REQUIRES: forms are those of the program with these options.
std::string general_reason(const program::Program& program, const StepForms& forms,
                           const program::Stage& stage, const MachineOptions& options);

}  // namespace ultraspeed::cuda
