// What executors have in common: checks before they run anything.
#pragma once

#include "base/result.h"
#include "program/executor.h"
#include "program/program.h"
#include "program/step.h"

namespace ultraspeed::program {

// Whether two programs declare the same ranks, weights and caches.
bool share_memory(const Program& a, const Program& b);

// CHECKs that the limits have the sequences and pages of a copy.
void check_copy(const CacheLimits& limits, const CacheCopy& copy);

// Errors: kInvalidArgument for a step that the program or the caches cannot hold.
Status check_step(const Program& program, const CacheLimits& limits, const StepInput& input);

// Whether the positions of each sequence follow each other. Errors: kInvalidArgument.
Status check_no_gaps(const StepInput& input);

// What of a column's sampling parameters a sampler cannot use: ids outside the vocabulary and masks
// of another size. Errors: kInvalidArgument.
Status check_sampling(const ColumnSampling& sampling, uint32_t position, size_t vocab_size);

}  // namespace ultraspeed::program
