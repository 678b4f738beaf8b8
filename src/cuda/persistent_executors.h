// The two of make_persistent_executor() (executor.h): one for each arithmetic.
#pragma once

#include <memory>

#include "cuda/executor.h"

namespace ultraspeed::cuda {

// In f32: the program's own tasks.
std::unique_ptr<program::Executor> make_task_executor(const PersistentOptions& options);
// In w4a8: phases, with the graph executor's tiles.
std::unique_ptr<program::Executor> make_phase_executor(const PersistentOptions& options);

}  // namespace ultraspeed::cuda
