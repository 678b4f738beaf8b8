// What the tests of grammars share: vocabularies, membership, random walks through masks.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/mask_table.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"

namespace ultraspeed::grammar {

// The value, or a failed check with the error's message.
Grammar value_or_fail(Result<Grammar> grammar);

// Tokens 0 to 255 are the bytes, then come the given ones, and a stop token at the end.
Vocabulary test_vocabulary(const std::vector<std::string>& tokens = {});
int32_t stop_token(const Vocabulary& vocabulary);

// Pieces that JSON is often made of, those that cross brackets and characters included.
std::vector<std::string> json_tokens();

// Whether the whole text is of the language.
bool matches(const Grammar& grammar, std::string_view text);

// Matching of one grammar with a vocabulary.
struct Machine {
  explicit Machine(Grammar from, Vocabulary with = test_vocabulary())
      : grammar(std::move(from)), vocabulary(std::move(with)), masks(grammar, vocabulary) {}

  Matcher matcher() { return Matcher(&masks); }
  std::vector<uint64_t> mask(const Matcher& matcher) const;
  std::vector<int32_t> allowed(const Matcher& matcher) const;

  Grammar grammar;
  Vocabulary vocabulary;
  MaskTable masks;
};

// A text of random allowed tokens; after num_free_tokens it goes for the end as JSON texts can.
std::string random_walk(Machine* machine, size_t num_free_tokens, std::mt19937* random);

// The tokens of a random cut of the text into tokens of the vocabulary.
std::vector<int32_t> random_tokens(const Vocabulary& vocabulary, std::string_view text,
                                   std::mt19937* random);

}  // namespace ultraspeed::grammar
