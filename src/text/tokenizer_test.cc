// The tokenizer as a whole: the reference library's vectors, and what holds for any text.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "support/scale.h"
#include "text/nfc.h"
#include "text/tokenizer_test_support.h"

namespace ultraspeed::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

// The vectors whose ids or decoded text a tokenizer gets wrong, of how many.
struct VectorResult {
  size_t num_wrong = 0;
  size_t num_vectors = 0;
};

VectorResult check_vectors(const Tokenizer& tokenizer) {
  VectorResult result;
  for (const json& vector : read_golden_json("tokenizer.json")) {
    ++result.num_vectors;
    const Ids ids = encode_or_die(tokenizer, vector.at("text").get<std::string>());
    const bool is_right =
        ids == vector.at("ids").get<Ids>() && tokenizer.decode(ids) == vector.at("decoded");
    result.num_wrong += is_right ? 0 : 1;
  }
  return result;
}

TEST(Tokenizer, AgreesWithTheReferenceVectors) {
  for (const json& vector : read_golden_json("tokenizer.json")) {
    const std::string text = vector.at("text");
    EXPECT_EQ(encode_or_die(bundled_tokenizer(), text), vector.at("ids").get<Ids>()) << text;
    EXPECT_EQ(bundled_tokenizer().decode(vector.at("ids").get<Ids>()), vector.at("decoded"))
        << text;
  }
  const VectorResult result = check_vectors(bundled_tokenizer());
  EXPECT_EQ(result.num_vectors, 159u);
  EXPECT_EQ(result.num_wrong, 0u);
}

TEST(Tokenizer, AgreesWithTheGoldenPrompts) {
  for (const char* name : {"00-code", "01-code", "02-code", "03-code", "04-math", "05-math",
                           "06-math", "07-math", "08-agent", "09-agent", "10-agent", "11-agent"}) {
    const json golden = read_golden_json(std::string(name) + ".json");
    EXPECT_EQ(encode_or_die(bundled_tokenizer(), golden.at("prompt").get<std::string>()),
              golden.at("prompt_ids").get<Ids>())
        << name;
    EXPECT_EQ(bundled_tokenizer().decode(golden.at("greedy_ids").get<Ids>()),
              golden.at("greedy_text"))
        << name;
  }
}

TEST(Tokenizer, TheVectorsNoticeEachMutation) {
  const auto num_wrong_after = [](const std::function<void(json&)>& mutate) {
    json mutated = bundled_json();
    mutate(mutated);
    return check_vectors(make_tokenizer(mutated)).num_wrong;
  };
  ASSERT_EQ(num_wrong_after([](json&) {}), 0u);
  EXPECT_GT(num_wrong_after(
                [](json& j) { std::swap(j["model"]["merges"][3], j["model"]["merges"][40]); }),
            0u);
  EXPECT_GT(num_wrong_after([](json& j) { j["model"]["merges"].erase(3); }), 0u);
  EXPECT_GT(num_wrong_after(
                [](json& j) { std::swap(j["model"]["vocab"]["user"], j["model"]["vocab"]["er"]); }),
            0u);
  EXPECT_GT(num_wrong_after([](json& j) { j["normalizer"] = nullptr; }), 0u);
  EXPECT_GT(num_wrong_after([](json& j) { j["added_tokens"].erase(7); }), 0u);
  EXPECT_GT(num_wrong_after([](json& j) { j["added_tokens"][1]["rstrip"] = true; }), 0u);
  EXPECT_GT(num_wrong_after([](json& j) {
              std::string pattern = j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
              pattern.replace(pattern.find("(?!\\S)"), 6, "(?!\\w)");
              j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
            }),
            0u);
}

TEST(Tokenizer, DecodingGivesBackNormalizedText) {
  RandomText random(1);
  for (int i = 0; i < test::scaled(2000); ++i) {
    const std::string text = random.text(20);
    EXPECT_EQ(bundled_tokenizer().decode(encode_or_die(bundled_tokenizer(), text)),
              normalize_nfc(text).text);
  }
}

TEST(Tokenizer, MalformedBytesAreReadAsReplacementCharacters) {
  RandomText random(2);
  for (int i = 0; i < test::scaled(2000); ++i) {
    const std::string bytes = random.bytes(40) + random.text(4) + random.bytes(3);
    const std::string valid = replace_malformed(bytes).text;
    const Ids ids = encode_or_die(bundled_tokenizer(), bytes);
    EXPECT_EQ(ids, encode_or_die(bundled_tokenizer(), valid));
    EXPECT_EQ(bundled_tokenizer().decode(ids), normalize_nfc(valid).text);
  }
}

TEST(Tokenizer, ThreadsAgree) {
  RandomText random(3);
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (int i = 0; i < 100; ++i) {
    texts.push_back(random.text(30));
    expected.push_back(encode_or_die(bundled_tokenizer(), texts.back()));
  }
  std::vector<std::vector<Ids>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (const std::string& text : texts) ids.push_back(encode_or_die(bundled_tokenizer(), text));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

// 1 MB of one piece, repeated: long words, long runs of white space, long runs of marks.
TEST(Tokenizer, AMegabyteTakesSeconds) {
  constexpr size_t kSizeBytes = 1 << 20;
  constexpr std::chrono::seconds kLimit(60);  // sanitizers and slow machines included; about 0.2 s
  for (const char* piece :
       {"a", " ", "\n", "'", "\xE6\x97\xA5", "\xCC\x81\xCC\xA3", "<|im_end|>", "a b\n", "\xFF"}) {
    std::string text;
    while (text.size() < kSizeBytes) text += piece;
    const auto begin = std::chrono::steady_clock::now();
    const Ids ids = encode_or_die(bundled_tokenizer(), text);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kLimit) << piece;
    EXPECT_EQ(bundled_tokenizer().decode(ids), normalize_nfc(replace_malformed(text).text).text);
  }
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer& tokenizer = bundled_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 12288u);
  EXPECT_EQ(tokenizer.find_token("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer.token_bytes(2), "<|im_end|>");
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.find_token("\xC4\xA0"), 246);  // the spelling of a space
  EXPECT_EQ(tokenizer.token_bytes(246), " ");
  EXPECT_FALSE(tokenizer.is_special(246));
  EXPECT_EQ(tokenizer.token_bytes(198), "\xF0");  // a part of a character
  EXPECT_FALSE(tokenizer.find_token("no such token"));
  for (const int32_t id : {-1, 12288, INT32_MIN, INT32_MAX}) {
    EXPECT_EQ(tokenizer.token_bytes(id), "");
    EXPECT_FALSE(tokenizer.is_special(id));
  }
  EXPECT_EQ(tokenizer.decode(Ids{1, 516, -5, 99999, 2}), "<|im_start|>user<|im_end|>");
  EXPECT_EQ(tokenizer.decode(Ids{1, 516, 2}, true), "user");
}

TEST(Tokenizer, EveryTokenDecodesToItsBytes) {
  const Tokenizer& tokenizer = bundled_tokenizer();
  for (int32_t id = 0; id < static_cast<int32_t>(tokenizer.vocab_size()); ++id) {
    const std::string bytes(tokenizer.token_bytes(id));
    ASSERT_FALSE(bytes.empty()) << id;
    ASSERT_EQ(tokenizer.decode(Ids{id}), replace_malformed(bytes).text);
  }
}

TEST(Tokenizer, SmallTokenizer) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  EXPECT_EQ(tokenizer.vocab_size(), 260u);
  EXPECT_EQ(encode_or_die(tokenizer, "abcab ba"), (Ids{257, 256, ' ', 'b', 'a'}));
  EXPECT_EQ(encode_or_die(tokenizer, "ab<end>c"), (Ids{256, 258, 'c'}));
  EXPECT_EQ(tokenizer.decode(Ids{256, 258, 259, 257}, true), "ab<tool>abc");
  EXPECT_EQ(encode_or_die(tokenizer, ""), Ids{});
}

TEST(Tokenizer, IgnoreMergesTakesWholeWordsButNeverAddedTokens) {
  json with = small_tokenizer_json();
  with["model"]["vocab"]["xyz"] = 260;
  with["model"]["vocab"]["<tool>"] = 259;
  with["model"]["ignore_merges"] = true;
  const Tokenizer tokenizer = make_tokenizer(with);
  EXPECT_EQ(encode_or_die(tokenizer, "xyz ab"), (Ids{260, ' ', 256}));
  EXPECT_EQ(encode_or_die(tokenizer, "xyza"), (Ids{'x', 'y', 'z', 'a'}));
  EXPECT_EQ(encode_or_die(tokenizer, "<tool>"), (Ids{259}));
  EXPECT_EQ(encode_or_die(tokenizer, "<tool>", {.parse_special = false}),
            (Ids{'<', 't', 'o', 'o', 'l', '>'}));
}

TEST(Tokenizer, ThePostProcessorRunsOnRequest) {
  json with = small_tokenizer_json();
  const json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json end = {{"SpecialToken", {{"id", "<end>"}, {"type_id", 0}}}};
  const json entry = {{"<end>", {{"id", "<end>"}, {"ids", {258}}, {"tokens", {"<end>"}}}}};
  const auto template_of = [&](json single) {
    return json{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", entry}};
  };
  with["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}}, template_of({end, sequence}), template_of({sequence, end})}}};
  const Tokenizer tokenizer = make_tokenizer(with);
  EXPECT_EQ(encode_or_die(tokenizer, "ab"), Ids{256});
  EXPECT_EQ(encode_or_die(tokenizer, "ab", {.add_special_tokens = true}), (Ids{258, 256, 258}));
  EXPECT_EQ(encode_or_die(tokenizer, "", {.add_special_tokens = true}), (Ids{258, 258}));
}

TEST(Tokenizer, LoadReportsWhatIsWrongWithTheFile) {
  const auto missing = Tokenizer::load("/no/such/tokenizer.json");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/no/such/tokenizer.json"), std::string::npos);
  const auto other = Tokenizer::load(US_SOURCE_DIR "/models/tiny-mimo/config.json");
  ASSERT_FALSE(other.has_value());
  EXPECT_NE(other.error().message.find("config.json: the document: expected a member \"model\""),
            std::string::npos)
      << other.error().message;
}

}  // namespace
}  // namespace ultraspeed::text
