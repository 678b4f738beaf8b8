// Programs and tasks as text: listings, fault records, graphs.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "program/program.h"

namespace ultraspeed::program {

// "rank 0 worker 3 task 17 (layers.2.qkv_proj, QkvProj)"; safe for broken tasks.
std::string task_location(const Program& program, uint32_t rank, uint32_t worker, size_t index);

// One line: opcode, stage, tile, waits, signal, pages.
std::string print_task(const Program& program, const Task& task);

// The stages; with `tasks`, every list of rank 0 too. Ends with a newline.
std::string print_program(const Program& program, bool tasks);

// For each stage those that its tasks on rank 0 wait for, or whose values they read.
std::vector<std::set<uint32_t>> stages_before(const Program& program);

// The stages of one layer and what they wait for or read on rank 0, as a Graphviz digraph.
// layer == kNoLayer: the stages outside the layers.
std::string print_layer_graph(const Program& program, uint16_t layer);

}  // namespace ultraspeed::program
