// Fuzzes grammars in GBNF: any text gives an error with a sentence, or a grammar whose masks allow
// what accept() takes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "grammar/ebnf.h"
#include "grammar/fuzz_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ultraspeed::grammar::check_grammar(ultraspeed::grammar::parse_ebnf(text));
  return 0;
}
