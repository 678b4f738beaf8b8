// Fuzzes the parser of tokenizer.json. The input up to its first newline is the file (JSON needs
// none), the rest a text for the tokenizer, if the file makes one. So that small inputs get far,
// the first string "@" of the file stands for the vocabulary and merges of a complete model.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace {

// The 256 bytes and two merges.
const std::string& model_members() {
  static const std::string members = [] {
    std::string json = "\"merges\":[\"a b\",[\"ab\",\"c\"]],\"vocab\":{";
    for (int byte = 0; byte < 256; ++byte) {
      const char value = static_cast<char>(byte);
      std::string key = ultraspeed::text::byte_level_encode(std::string_view(&value, 1));
      if (key == "\"" || key == "\\") key.insert(0, "\\");
      json += "\"" + key + "\":" + std::to_string(byte) + ",";
    }
    return json + "\"ab\":256,\"abc\":257}";
  }();
  return members;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t newline = std::min(input.find('\n'), size);
  std::string json(input.substr(0, newline));
  constexpr std::string_view kMarker = "\"@\"";
  if (const size_t marker = json.find(kMarker); marker != std::string::npos) {
    json.replace(marker, kMarker.size(), model_members());
  }
  const auto tokenizer = ultraspeed::text::Tokenizer::from_json(json, "fuzz");
  if (!tokenizer) {
    US_CHECK(!tokenizer.error().message.empty());
    return 0;
  }
  const std::string_view text = input.substr(std::min(newline + 1, size));
  const auto ids = tokenizer->encode(text);
  if (ids) tokenizer->decode(*ids);
  return 0;
}
