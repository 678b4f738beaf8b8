// Fuzzes JSON Schema: any JSON gives an error with a sentence, or a grammar whose masks allow what
// accept() takes, and whose texts are JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "grammar/fuzz_support.h"
#include "grammar/json_schema.h"

using ultraspeed::grammar::Json;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Json schema = Json::parse(text, nullptr, false);
  if (schema.is_discarded()) return 0;
  const std::string example =
      ultraspeed::grammar::check_grammar(ultraspeed::grammar::parse_json_schema(schema));
  US_CHECK(example.empty() || Json::accept(example), "'{}' is no JSON", example);
  return 0;
}
