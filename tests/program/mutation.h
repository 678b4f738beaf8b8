// Small random changes to programs, of the kinds that a planner's mistakes would make.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "program/program.h"

namespace ultraspeed::test {

struct Mutation {
  std::string_view kind;  // "drop a wait"
  std::string place;      // "drop a wait: rank 0 worker 1 task 17 of stage layers.2.qkv_proj"
};

// All kinds, and those that change no more than waits, list positions and buffer offsets.
std::vector<std::string_view> mutation_kinds();
std::vector<std::string_view> order_mutation_kinds();

// Changes the program at one random place by one random kind and says what it did; nullopt when the
// draw fits nowhere (the program is then unchanged).
std::optional<Mutation> mutate(program::Program* program, std::mt19937_64* random,
                               const std::vector<std::string_view>& kinds = mutation_kinds());

// Whether two programs do the same pieces of work, whatever order, synchronisation and memory they
// give them: the same tiles of the same stages with the same weight blocks on the same ranks. If
// verify() accepts both, they compute the same values.
bool same_work(const program::Program& a, const program::Program& b);

}  // namespace ultraspeed::test
