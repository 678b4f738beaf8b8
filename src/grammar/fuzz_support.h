// What the fuzz targets of grammars share.
#pragma once

#include <string>
#include <vector>

#include "base/check.h"
#include "grammar/matcher.h"

namespace ultraspeed::grammar {

// A vocabulary of all bytes and some pieces of JSON; the last token stops.
inline const Vocabulary& fuzz_vocabulary() {
  static const Vocabulary kVocabulary = [] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* piece : {"ab", "\":", "\",\"", "\"}", "}]", "{\"", "12", "\xE2\x82", "aaa"}) {
      tokens.emplace_back(piece);
    }
    tokens.emplace_back("stop");
    const auto stop = static_cast<int32_t>(tokens.size() - 1);
    return *Vocabulary::make(std::vector<std::string_view>(tokens.begin(), tokens.end()),
                             {&stop, 1});
  }();
  return kVocabulary;
}

// Follows one text of the grammar: each mask has what accept() takes, and never nothing. Returns
// the text if it ends soon, else nothing.
inline std::string check_grammar(const Result<Grammar>& grammar) {
  constexpr size_t kMaxTokens = 40;
  if (!grammar) {
    US_CHECK(!grammar.error().message.empty(), "an error without a sentence");
    return {};
  }
  const Vocabulary& vocabulary = fuzz_vocabulary();
  MaskTable table(*grammar, vocabulary);
  Matcher matcher(&table);
  std::vector<uint64_t> mask(mask_words(vocabulary.size()));
  std::string text;
  for (size_t i = 0; i < kMaxTokens; ++i) {
    matcher.fill_mask(mask);
    int32_t last = -1;
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.size()); ++id) {
      const bool is_allowed = (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
      const bool is_accepted = matcher.accept(id);
      US_CHECK(is_allowed == is_accepted, "token {} after '{}'", id, text);
      if (!is_accepted) continue;
      matcher.rollback(1);
      last = id;
    }
    US_CHECK(last >= 0, "nothing may follow '{}'", text);
    matcher.accept(last);
    if (matcher.is_stopped()) return text;
    text += vocabulary.bytes(last);
  }
  return {};
}

}  // namespace ultraspeed::grammar
