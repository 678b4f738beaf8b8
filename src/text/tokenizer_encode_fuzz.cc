// Fuzzes encoding and decoding with the bundled tokenizer. Two bytes of the input choose a plain
// range, the rest is the text. What must hold: without added tokens, decoding gives the text back
// in NFC, malformed bytes replaced, and has no special token; incremental decoding agrees with
// decoding.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/tokenizer.h"

namespace {

using namespace ultraspeed::text;

const Tokenizer& bundled_tokenizer() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::load(US_SOURCE_DIR "/models/tiny-mimo/tokenizer.json");
    US_CHECK(loaded.has_value(), "{}", loaded.error().message);
    return *std::move(loaded);
  }();
  return tokenizer;
}

void check_ids(const std::vector<int32_t>& ids, const std::string& expected) {
  US_CHECK(bundled_tokenizer().decode(ids) == expected);
  Detokenizer detokenizer(bundled_tokenizer());
  std::string text;
  for (const int32_t id : ids) text += detokenizer.push(id);
  US_CHECK(text + detokenizer.finish() == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto plain_text = bundled_tokenizer().encode(text, {.parse_special = false});
  US_CHECK(plain_text.has_value(), "{}", plain_text.error().message);
  for (const int32_t id : *plain_text) US_CHECK(!bundled_tokenizer().is_special(id));
  check_ids(*plain_text, normalize_nfc(replace_malformed(text).text).text);

  const size_t begin = data[0] % (text.size() + 1);
  const ByteRange plain = {begin, begin + data[1] % (text.size() - begin + 1)};
  const auto partly = bundled_tokenizer().encode(text, {.plain_ranges = {&plain, 1}});
  US_CHECK(partly.has_value(), "{}", partly.error().message);
  check_ids(*partly, bundled_tokenizer().decode(*partly));
  return 0;
}
