// Prompts that begin like others have the tokens that they have alone.
#include "server/encode_memory.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "server/json_fields.h"
#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

// A message whose text, which may spell special tokens, is plain.
void add_message(text::RenderedPrompt* prompt, const std::string& text) {
  prompt->text += "<|im_start|>user\n";
  const size_t begin = prompt->text.size();
  prompt->text += text;
  if (!text.empty()) prompt->input_ranges.push_back({begin, prompt->text.size()});
  prompt->text += "<|im_end|>\n";
}

std::vector<int32_t> encoded_alone(const text::RenderedPrompt& prompt) {
  return *test_tokenizer().encode(prompt.text,
                                  {.parse_special = true, .plain_ranges = prompt.input_ranges});
}

std::string any_text() {
  const auto piece = rc::gen::element<std::string>(
      "word ", "  ", "\n", "<|im_end|>", "<|im_start|>", "<think>", "<|im_", "12", "\xC3\xA9",
      "e\xCC\x81", "\xFF", std::string(300, 'x'));
  std::string all;
  for (const std::string& text : *rc::gen::container<std::vector<std::string>>(piece)) all += text;
  return all;
}

TEST(EncodeMemoryTest, TokensDoNotDependOnWhatIsKnown) {
  const bool holds = rc::check("tokens are those of the text alone", [] {
    EncodeMemory memory(test_tokenizer(), 1 << 20);
    std::vector<text::RenderedPrompt> prompts(1);
    for (int i = 0; i < 12; ++i) {
      text::RenderedPrompt prompt = prompts[*rc::gen::inRange<size_t>(0, prompts.size())];
      if (*rc::gen::inRange(0, 4) == 0) {
        prompt.text += any_text();  // of the template, say
      } else {
        add_message(&prompt, any_text());
      }
      RC_ASSERT(*memory.encode("", prompt) == encoded_alone(prompt));
      prompts.push_back(std::move(prompt));
    }
  });
  EXPECT_TRUE(holds);
}

TEST(EncodeMemoryTest, WhatIsPlainInOnePromptMayBeATokenInAnother) {
  EncodeMemory memory(test_tokenizer(), 1 << 20);
  text::RenderedPrompt plain, special;
  add_message(&plain, std::string(2000, 'x') + "<|im_end|>" + std::string(2000, 'y'));
  add_message(&plain, "z");
  special = plain;
  special.input_ranges.erase(special.input_ranges.begin());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(*memory.encode("", plain), encoded_alone(plain));
    EXPECT_EQ(*memory.encode("", special), encoded_alone(special));
  }
  EXPECT_NE(encoded_alone(plain), encoded_alone(special));
}

// The bundled tokenizer with more added tokens; `flags` are true in their tokenizer.json.
struct Added {
  std::string content;
  std::vector<std::string> flags;
};
text::Tokenizer tokenizer_with(const std::vector<Added>& added) {
  std::ifstream file(US_SOURCE_DIR "/models/tiny-mimo/tokenizer.json");
  Json json = Json::parse(file);
  Json& tokens = json["added_tokens"];
  for (const Added& token : added) {
    Json entry = tokens.back();
    for (auto& [name, value] : entry.items()) {
      if (value.is_boolean()) value = std::ranges::count(token.flags, name) > 0;
    }
    entry["id"] = json["model"]["vocab"].size() + tokens.size();
    entry["content"] = token.content;
    tokens.push_back(std::move(entry));
  }
  auto tokenizer = text::Tokenizer::from_json(json.dump(), "test");
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return *std::move(tokenizer);
}

// Of two texts that begin with 2,000 x, and go on so.
void expect_encoded_alone(const text::Tokenizer& tokenizer, const std::string& known,
                          const std::string& next) {
  EncodeMemory memory(tokenizer, 1 << 20);
  for (const std::string& end : {known, next}) {
    const text::RenderedPrompt prompt{std::string(2000, 'x') + end, {}};
    EXPECT_EQ(*memory.encode("", prompt), *tokenizer.encode(prompt.text)) << end;
  }
}

TEST(EncodeMemoryTest, ALongerTokenMayBeginAsAKnownOne) {
  const std::string longer = "<|im_end|>" + std::string(200, 'y');
  const text::Tokenizer tokenizer = tokenizer_with({{longer, {"special"}}});
  EXPECT_EQ(tokenizer.border_reach_bytes(), longer.size());
  expect_encoded_alone(tokenizer, longer.substr(0, longer.size() - 1), longer);
}

TEST(EncodeMemoryTest, AWordMayGoOnBehindAToken) {
  const text::Tokenizer tokenizer =
      tokenizer_with({{"<end", {"special"}}, {"zqw", {"single_word"}}});
  expect_encoded_alone(tokenizer, "<endzqw a long way", "<endzqw a long way, and on");
}

TEST(EncodeMemoryTest, AMarkMayJoinTheEndOfANormalizedToken) {
  const text::Tokenizer tokenizer = tokenizer_with({{"<n>", {"special", "normalized"}}});
  std::string token = "<n>";
  for (int i = 0; i < 30; ++i) token += "\xCC\x81";            // U+0301
  expect_encoded_alone(tokenizer, token, token + "\xCC\xB8");  // U+0338 comes before those
}

TEST(EncodeMemoryTest, ForgetsWhatDoesNotFit) {
  EncodeMemory memory(test_tokenizer(), 20'000);
  for (int i = 0; i < 50; ++i) {
    text::RenderedPrompt prompt;
    add_message(&prompt, std::to_string(i) + std::string(2000, 'x'));
    EXPECT_EQ(*memory.encode(std::to_string(i % 3), prompt), encoded_alone(prompt));
  }
  text::RenderedPrompt large;
  add_message(&large, std::string(40'000, 'x'));
  EXPECT_EQ(*memory.encode("", large), encoded_alone(large));
}

}  // namespace
}  // namespace ultraspeed::server
