// Every way in which a tokenizer.json can be wrong gets an error that names file, path and
// expectation.
#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <functional>

#include "text/tokenizer_test_support.h"

namespace ultraspeed::text {
namespace {

using nlohmann::json;

struct Case {
  std::function<void(json&)> damage;
  ErrorCode code;
  std::string message;  // a part of it
};

constexpr ErrorCode kInvalid = ErrorCode::kInvalidData;
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;

void check(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    json damaged = small_tokenizer_json();
    one.damage(damaged);
    const auto result = Tokenizer::from_json(damaged.dump(), "x.json");
    ASSERT_FALSE(result.has_value()) << one.message;
    EXPECT_EQ(result.error().code, one.code) << result.error().message;
    EXPECT_TRUE(result.error().message.starts_with("x.json: ")) << result.error().message;
    EXPECT_NE(result.error().message.find(one.message), std::string::npos)
        << "expected: " << one.message << "\n   found: " << result.error().message;
  }
}

json& split_of(json& j) {
  return j["pre_tokenizer"]["pretokenizers"][0];
}
json& byte_level_of(json& j) {
  return j["pre_tokenizer"]["pretokenizers"][1];
}

TEST(TokenizerJson, TheUndamagedFileIsFine) {
  EXPECT_TRUE(Tokenizer::from_json(small_tokenizer_json().dump(), "x.json").has_value());
}

TEST(TokenizerJson, Document) {
  for (const std::string_view text : {"", "{", "[1", "nul", "{\"a\": \"\xFF\"}", "\"\\ud800\""}) {
    const auto result = Tokenizer::from_json(text, "x.json");
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().code, kInvalid);
    EXPECT_NE(result.error().message.find("x.json: expected a JSON document"), std::string::npos);
  }
  const auto scalar = Tokenizer::from_json("[]", "x.json");
  ASSERT_FALSE(scalar.has_value());
  EXPECT_EQ(scalar.error().message, "x.json: the document: expected an object, found an array");
  check({
      {[](json& j) { j["version"] = "2.0"; }, kUnsupported, "version: version \"2.0\""},
      {[](json& j) { j["version"] = 1; }, kInvalid, "version: expected a string, found an integer"},
      {[](json& j) {
         j["truncation"] = {{"max_length", 8}};
       },
       kUnsupported, "truncation: "},
      {[](json& j) { j["padding"] = json::object(); }, kUnsupported, "padding: not supported"},
  });
}

TEST(TokenizerJson, NestingHasALimit) {
  const auto result =
      Tokenizer::from_json(std::string(100000, '[') + std::string(100000, ']'), "x.json");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, kInvalid);
}

TEST(TokenizerJson, Model) {
  check({
      {[](json& j) { j.erase("model"); }, kInvalid, "expected a member \"model\""},
      {[](json& j) { j["model"] = 1; }, kInvalid, "model: expected an object, found an integer"},
      {[](json& j) { j["model"]["type"] = "Unigram"; }, kUnsupported,
       "model.type: the model \"Unigram\" is not supported; expected \"BPE\""},
      {[](json& j) { j["model"]["dropout"] = 0.1; }, kUnsupported, "model.dropout: not supported"},
      {[](json& j) { j["model"]["byte_fallback"] = true; }, kUnsupported, "model.byte_fallback"},
      {[](json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, kUnsupported,
       "model.end_of_word_suffix"},
      {[](json& j) { j["model"]["continuing_subword_prefix"] = "##"; }, kUnsupported,
       "model.continuing_subword_prefix"},
      {[](json& j) { j["model"]["ignore_merges"] = "yes"; }, kInvalid,
       "model.ignore_merges: expected a boolean, found a string"},
  });
}

TEST(TokenizerJson, HarmlessMembersOfTheModelAreFine) {
  json with = small_tokenizer_json();
  with["model"]["dropout"] = 0.0;
  with["model"]["byte_fallback"] = false;
  with["model"]["continuing_subword_prefix"] = "";
  with["model"]["unk_token"] = "<end>";
  with["model"].erase("type");
  with.erase("version");
  EXPECT_TRUE(Tokenizer::from_json(with.dump(), "x.json").has_value());
}

TEST(TokenizerJson, Vocab) {
  check({
      {[](json& j) { j["model"].erase("vocab"); }, kInvalid, "model: expected a member \"vocab\""},
      {[](json& j) { j["model"]["vocab"] = json::array(); }, kInvalid,
       "model.vocab: expected an object of tokens and ids"},
      {[](json& j) { j["model"]["vocab"]["ab"] = "x"; }, kInvalid,
       "model.vocab[\"ab\"]: expected an id from 0 to 2097151"},
      {[](json& j) { j["model"]["vocab"]["ab"] = -1; }, kInvalid, "[\"ab\"]: expected an id"},
      {[](json& j) { j["model"]["vocab"]["ab"] = 1 << 21; }, kInvalid, "[\"ab\"]: expected an id"},
      {[](json& j) { j["model"]["vocab"]["ab"] = 1.5; }, kInvalid, "[\"ab\"]: expected an id"},
      {[](json& j) { j["model"]["vocab"]["ab"] = 257; }, kInvalid,
       "the id 257 belongs to another token"},
      {[](json& j) { j["model"]["vocab"].erase("a"); }, kUnsupported,
       "model.vocab: expected a token for each byte, found none for byte 0x61 (\"a\")"},
  });
  std::string twice = small_tokenizer_json().dump();
  twice.replace(twice.find("\"abc\":257"), 9, "\"abc\":257,\"abc\":300");
  const auto result = Tokenizer::from_json(twice, "x.json");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().message, "x.json: model.vocab[\"abc\"]: the token appears twice");
}

TEST(TokenizerJson, BytesThatUtf8NeverHasNeedNoToken) {
  json with = small_tokenizer_json();
  for (const char* spelling : {"\u00C0", "\u00C1", "\u00F5", "\u00FF"}) {
    with["model"]["vocab"].erase(spelling);
  }
  const Tokenizer tokenizer = make_tokenizer(with);
  EXPECT_EQ(encode_or_die(tokenizer, "\xC0"), (std::vector<int32_t>{0xEF, 0xBF, 0xBD}));
  EXPECT_EQ(tokenizer.token_bytes(0xC0), "");
}

TEST(TokenizerJson, Merges) {
  check({
      {[](json& j) { j["model"].erase("merges"); }, kInvalid, "expected a member \"merges\""},
      {[](json& j) { j["model"]["merges"] = "a b"; }, kInvalid,
       "model.merges: expected an array of merge rules"},
      {[](json& j) { j["model"]["merges"][1] = "ab"; }, kInvalid,
       "model.merges[1]: expected two tokens"},
      {[](json& j) { j["model"]["merges"][0] = "a b c"; }, kInvalid, "model.merges[0]: expected"},
      {[](json& j) { j["model"]["merges"][0] = {"a"}; }, kInvalid, "model.merges[0]: expected"},
      {[](json& j) {
         j["model"]["merges"][0] = {"a", 7};
       },
       kInvalid, "model.merges[0]: expected"},
      {[](json& j) { j["model"]["merges"][0] = nullptr; }, kInvalid, "model.merges[0]: expected"},
      {[](json& j) { j["model"]["merges"][0] = "a xyz"; }, kInvalid,
       "model.merges[0]: the token \"xyz\" is not in the vocabulary"},
      {[](json& j) {
         j["model"]["merges"][0] = {"b", "a"};
       },
       kInvalid, "model.merges[0]: the token \"ba\" is not in the vocabulary"},
  });
}

TEST(TokenizerJson, AddedTokens) {
  check({
      {[](json& j) { j["added_tokens"] = 1; }, kInvalid, "added_tokens: expected an array"},
      {[](json& j) { j["added_tokens"][1] = "x"; }, kInvalid,
       "added_tokens[1]: expected an object, found a string"},
      {[](json& j) { j["added_tokens"][1].erase("content"); }, kInvalid,
       "added_tokens[1]: expected a member \"content\""},
      {[](json& j) { j["added_tokens"][1]["content"] = ""; }, kInvalid,
       "added_tokens[1].content: expected a string, found \"\""},
      {[](json& j) { j["added_tokens"][1].erase("id"); }, kInvalid,
       "added_tokens[1]: expected a member \"id\""},
      {[](json& j) { j["added_tokens"][1]["id"] = -3; }, kInvalid,
       "added_tokens[1].id: expected an id from 0"},
      {[](json& j) { j["added_tokens"][1]["id"] = true; }, kInvalid,
       "added_tokens[1].id: expected an integer of 64 bits, found a boolean"},
      {[](json& j) { j["added_tokens"][1]["lstrip"] = 1; }, kInvalid,
       "added_tokens[1].lstrip: expected a boolean, found an integer"},
      {[](json& j) { j["added_tokens"][1]["id"] = 258; }, kInvalid,
       "added_tokens[1]: the token \"<tool>\" with id 258 contradicts \"<end>\""},
      {[](json& j) { j["added_tokens"][1]["content"] = "ab"; }, kInvalid, "contradicts"},
      {[](json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, kInvalid,
       "added_tokens[2]: the added token \"<end>\" appears twice"},
  });
}

TEST(TokenizerJson, Normalizer) {
  check({
      {[](json& j) {
         j["normalizer"] = {{"type", "NFKC"}};
       },
       kUnsupported,
       "normalizer: \"NFKC\" is not supported; expected null, NFC or a Sequence of them"},
      {[](json& j) { j["normalizer"] = json::object(); }, kInvalid,
       "normalizer: expected a member \"type\""},
      {[](json& j) {
         j["normalizer"] = {{"type", "Sequence"}};
       },
       kInvalid, "normalizer: expected a member \"normalizers\""},
      {[](json& j) {
         j["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
       },
       kUnsupported, "normalizer.normalizers[1]: \"Lowercase\" is not supported"},
  });
}

TEST(TokenizerJson, PreTokenizer) {
  check({
      {[](json& j) { j["pre_tokenizer"] = nullptr; }, kUnsupported,
       "pre_tokenizer: expected ByteLevel as the last step, found none"},
      {[](json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }, kUnsupported,
       "pre_tokenizer: expected ByteLevel as the last step, found Split"},
      {[](json& j) { split_of(j)["type"] = "Metaspace"; }, kUnsupported,
       "pre_tokenizer.pretokenizers[0]: \"Metaspace\" is not supported; expected Split"},
      {[](json& j) { byte_level_of(j).erase("add_prefix_space"); }, kInvalid,
       "pretokenizers[1]: expected a member \"add_prefix_space\""},
      {[](json& j) { byte_level_of(j)["use_regex"] = 0; }, kInvalid,
       "pretokenizers[1].use_regex: expected a boolean"},
      {[](json& j) { split_of(j).erase("pattern"); }, kInvalid, "expected a member \"pattern\""},
      {[](json& j) { split_of(j)["pattern"] = json::object(); }, kInvalid,
       "pretokenizers[0].pattern: expected a member \"Regex\""},
      {[](json& j) { split_of(j)["pattern"] = "x"; }, kInvalid,
       "pretokenizers[0].pattern: expected an object, found a string"},
      {[](json& j) { split_of(j)["pattern"]["Regex"] = ""; }, kUnsupported,
       "pattern.Regex: expected a pattern, found \"\""},
      {[](json& j) { split_of(j)["pattern"]["Regex"] = "(a"; }, kInvalid,
       "pretokenizers[0].pattern.Regex: the regular expression does not compile"},
      {[](json& j) { split_of(j)["pattern"]["Regex"] = "\\bx"; }, kUnsupported,
       "pattern.Regex: the regular expression construct '\\b' at byte 0 is not supported"},
      {[](json& j) { split_of(j)["behavior"] = "Kept"; }, kUnsupported,
       "pretokenizers[0].behavior: the behavior \"Kept\" is not supported"},
      {[](json& j) { split_of(j).erase("invert"); }, kInvalid, "expected a member \"invert\""},
  });
}

TEST(TokenizerJson, PostProcessor) {
  const auto with_template = [](const std::function<void(json&)>& change) {
    return [change](json& j) {
      j["post_processor"] = {{"type", "TemplateProcessing"},
                             {"single",
                              {{{"SpecialToken", {{"id", "<end>"}, {"type_id", 0}}}},
                               {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                             {"special_tokens", {{"<end>", {{"id", "<end>"}, {"ids", {258}}}}}}};
      change(j["post_processor"]);
    };
  };
  check({
      {[](json& j) {
         j["post_processor"] = {{"type", "BertProcessing"}};
       },
       kUnsupported, "post_processor: \"BertProcessing\" is not supported"},
      {with_template([](json& p) { p.erase("single"); }), kInvalid, "expected a member \"single\""},
      {with_template([](json& p) { p["single"].erase(1); }), kUnsupported,
       "post_processor.single: expected the sequence \"A\""},
      {with_template([](json& p) { p["single"].push_back(p["single"][1]); }), kUnsupported,
       "post_processor.single[2]: expected the sequence \"A\" exactly once"},
      {with_template([](json& p) { p["single"][1]["Sequence"]["id"] = "B"; }), kUnsupported,
       "post_processor.single[1]: expected the sequence \"A\""},
      {with_template([](json& p) { p["single"][0] = json::object(); }), kInvalid,
       "post_processor.single[0]: expected a member \"Sequence\""},
      {with_template([](json& p) { p["special_tokens"] = json::object(); }), kInvalid,
       "post_processor.special_tokens: expected a member \"<end>\""},
      {with_template([](json& p) { p["special_tokens"]["<end>"]["ids"] = {9999}; }), kInvalid,
       "ids[0]: no token has the id 9999"},
      {with_template([](json& p) { p["special_tokens"]["<end>"]["ids"] = {"x"}; }), kInvalid,
       "ids[0]: expected an integer"},
  });
}

TEST(TokenizerJson, Decoder) {
  check({
      {[](json& j) { j["decoder"] = nullptr; }, kUnsupported,
       "decoder: expected ByteLevel, found none"},
      {[](json& j) {
         j["decoder"] = {{"type", "WordPiece"}};
       },
       kUnsupported, "decoder: expected ByteLevel, found WordPiece"},
      {[](json& j) {
         j["decoder"] = {{"type", 3}};
       },
       kInvalid, "decoder.type: expected a string"},
  });
}

// No prefix of a file is a file, and none does harm.
TEST(TokenizerJson, TruncatedFiles) {
  const std::string whole = small_tokenizer_json().dump();
  for (size_t size = 0; size < whole.size(); size += 13) {
    EXPECT_FALSE(Tokenizer::from_json(std::string_view(whole).substr(0, size), "x").has_value());
  }
}

}  // namespace
}  // namespace ultraspeed::text
