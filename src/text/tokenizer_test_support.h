// What the tokenizer's tests share: the bundled tokenizer, a small one to damage, random texts.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace ultraspeed::text {

// A golden output of the bundled model: "tokenizer.json".
nlohmann::json read_golden_json(const std::string& name);

// The bundled tokenizer, and its file.
const Tokenizer& bundled_tokenizer();
const nlohmann::json& bundled_json();

// The smallest complete tokenizer.json: 256 byte tokens with the byte as id, "ab" (256), "abc"
// (257), "<end>" (258, special) and "<tool>" (259, added), splits at white space, no normalizer.
nlohmann::json small_tokenizer_json();

// Loads a tokenizer that must be valid.
Tokenizer make_tokenizer(const nlohmann::json& json);

// Random texts of several scripts, marks, white space, code and added tokens, and random bytes.
class RandomText {
 public:
  explicit RandomText(uint64_t seed) : random_(seed) {}

  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  // Valid UTF-8 of up to max_parts words, marks, spaces, added tokens or halves of those.
  std::string text(uint32_t max_parts);
  // Any bytes.
  std::string bytes(uint32_t max_bytes);
  // Ascending disjoint ranges of [0, size_bytes).
  std::vector<ByteRange> ranges(size_t size_bytes, uint32_t max_ranges);

 private:
  std::mt19937_64 random_;
};

std::vector<int32_t> encode_or_die(const Tokenizer& tokenizer, std::string_view text,
                                   const EncodeOptions& options = {});

}  // namespace ultraspeed::text
