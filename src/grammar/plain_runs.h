// Plain text is what JSON strings hold without escapes, and most of a vocabulary is. Where a state
// takes so many plain characters, whatever they are, whole parts of the vocabulary are decided at
// once.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "grammar/code_points.h"
#include "grammar/grammar.h"

namespace ultraspeed::grammar {

// All characters but controls below U+0020, '"' and '\\'.
const CodePoints& plain_characters();

inline constexpr uint32_t kNotPlain = ~uint32_t{0};

// The number of characters of a plain text in whole UTF-8; kNotPlain for others.
uint32_t count_plain(std::string_view bytes);

struct PlainRun {
  // Any plain text of up to so many characters is taken; kEndless: of any length.
  uint32_t num_characters = 0;
  // A longer one is not, nor can the rule end inside of a run.
  bool is_exact = false;
  static constexpr uint32_t kEndless = ~uint32_t{0};
};

// For each state of the grammar.
std::vector<PlainRun> plain_runs(const Grammar& grammar);

}  // namespace ultraspeed::grammar
