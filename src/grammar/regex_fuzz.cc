// Fuzzes regular expressions: any text gives an error with a sentence, or a grammar whose masks
// allow what accept() takes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "grammar/fuzz_support.h"
#include "grammar/regex.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ultraspeed::grammar::check_grammar(ultraspeed::grammar::parse_regex(text));
  return 0;
}
