// The shared parts of the tokenizer's tests.
#include "text/tokenizer_test_support.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <set>

#include "base/check.h"
#include "support/reference_folder.h"
#include "text/byte_level.h"

namespace ultraspeed::text {
namespace {

constexpr std::array<std::string_view, 54> kParts = {" ",
                                                     " ",
                                                     " ",
                                                     "  ",
                                                     "\n",
                                                     "\r\n",
                                                     "\t",
                                                     "\n\n",
                                                     "\xC2\xA0",
                                                     "\xE1\xA0\x8E",
                                                     "\xE2\x80\xA8",
                                                     "the",
                                                     "Hello",
                                                     "world",
                                                     "camelCase",
                                                     "snake_case",
                                                     "na\xC3\xAFve",
                                                     "\xD0\xBC\xD0\xB8\xD1\x80",
                                                     "\xE6\x97\xA5\xE6\x9C\xAC",
                                                     "\xED\x95\x9C\xEA\xB5\xAD",
                                                     "\xE0\xA4\xA8\xE0\xA4\xAE",
                                                     "'s",
                                                     "'LL",
                                                     "don't",
                                                     "42",
                                                     "3.14",
                                                     "\xD9\xA3",
                                                     "\xC2\xBD",
                                                     "...",
                                                     "!?",
                                                     "(x)",
                                                     "{}",
                                                     "->",
                                                     "//",
                                                     "```",
                                                     "\xF0\x9F\x99\x82",
                                                     "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
                                                     "e\xCC\x81",
                                                     "A\xCC\x8A",
                                                     "\xCC\xA3",
                                                     "\xCC\x81",
                                                     "\xE2\x84\xAB",
                                                     "<|im_start|>",
                                                     "<|im_end|>",
                                                     "<think>",
                                                     "</think>",
                                                     "<tool_call>",
                                                     "<|im_",
                                                     "end|>",
                                                     "<",
                                                     ">",
                                                     "|",
                                                     std::string_view("\0", 1),
                                                     "\xEF\xBB\xBF"};

const std::string kBundled = US_SOURCE_DIR "/models/tiny-mimo/tokenizer.json";

nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  US_CHECK(file.is_open(), "{} is missing", path);
  return nlohmann::json::parse(file);
}

}  // namespace

nlohmann::json read_golden_json(const std::string& name) {
  const auto directory = test::reference_folder("tiny_mimo_golden");
  US_CHECK(directory.has_value(), "{}", directory.error().message);
  return read_json(*directory + "/" + name);
}

const nlohmann::json& bundled_json() {
  static const nlohmann::json json = read_json(kBundled);
  return json;
}

const Tokenizer& bundled_tokenizer() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::load(kBundled);
    US_CHECK(loaded.has_value(), "{}", loaded.error().message);
    return *std::move(loaded);
  }();
  return tokenizer;
}

nlohmann::json small_tokenizer_json() {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char value = static_cast<char>(byte);
    vocab[byte_level_encode(std::string_view(&value, 1))] = byte;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens",
       {{{"id", 258}, {"content", "<end>"}, {"special", true}, {"normalized", false}},
        {{"id", 259}, {"content", "<tool>"}, {"special", false}, {"normalized", false}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"},
           {"pattern", {{"Regex", "\\s+"}}},
           {"behavior", "Isolated"},
           {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"merges", nlohmann::json::array({"a b", nlohmann::json::array({"ab", "c"})})}}},
  };
}

Tokenizer make_tokenizer(const nlohmann::json& json) {
  auto tokenizer = Tokenizer::from_json(json.dump(), "test.json");
  US_CHECK(tokenizer.has_value(), "{}", tokenizer.error().message);
  return *std::move(tokenizer);
}

std::string RandomText::text(uint32_t max_parts) {
  std::string text;
  for (uint32_t i = below(max_parts + 1); i > 0; --i) text += kParts[below(kParts.size())];
  return text;
}

std::string RandomText::bytes(uint32_t max_bytes) {
  std::string bytes;
  for (uint32_t i = below(max_bytes + 1); i > 0; --i) bytes += static_cast<char>(below(256));
  return bytes;
}

std::vector<ByteRange> RandomText::ranges(size_t size_bytes, uint32_t max_ranges) {
  std::multiset<size_t> borders;
  for (uint32_t i = 2 * below(max_ranges + 1); i > 0; --i) {
    borders.insert(below(static_cast<uint32_t>(size_bytes) + 1));
  }
  std::vector<ByteRange> ranges;
  for (auto it = borders.begin(); it != borders.end(); std::advance(it, 2)) {
    ranges.push_back({*it, *std::next(it)});
  }
  return ranges;
}

std::vector<int32_t> encode_or_die(const Tokenizer& tokenizer, std::string_view text,
                                   const EncodeOptions& options) {
  auto ids = tokenizer.encode(text, options);
  US_CHECK(ids.has_value(), "{}", ids.error().message);
  return *std::move(ids);
}

}  // namespace ultraspeed::text
