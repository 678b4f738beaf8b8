// A second opinion on verify(): the same question answered by brute force, for small programs.
//
// Where verify() carries vector clocks through one simulated run, this draws the whole graph of
// what happens before what, unit by unit, closes it, and looks at every pair of accesses to the
// same element or byte. It shares task_accesses() with verify() and nothing else.
#pragma once

#include <optional>
#include <string>

#include "program/program.h"

namespace ultraspeed::test {

// What is wrong with the program's order or memory; nullopt: nothing. REQUIRES: stages, tiles and
// ids are in range, as they are in a program that verify() accepts or that differs from such a one
// in waits, list positions and buffer offsets alone.
std::optional<std::string> find_disorder(const program::Program& program);

}  // namespace ultraspeed::test
