// Small random changes to programs, of the kinds that a planner's mistakes would make.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>

#include "program/program.h"

namespace ultraspeed::test {

// Changes the program at one random place and says what it did; nullopt when the draw fits nowhere
// (the program is then unchanged).
std::optional<std::string> mutate(program::Program* program, std::mt19937_64* random);

// Whether two programs do the same pieces of work, whatever order, synchronisation and memory they
// give them: the same tiles of the same stages with the same weight blocks on the same ranks. If
// verify() accepts both, they compute the same values.
bool same_work(const program::Program& a, const program::Program& b);

}  // namespace ultraspeed::test
