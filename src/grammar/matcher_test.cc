// Masks against accept(), rollback, forks, drafts and forced text, for grammars of every kind.
#include "grammar/matcher.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <thread>

#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "grammar/test_support.h"
#include "support/scale.h"

namespace ultraspeed::grammar {
namespace {

std::vector<Grammar> sample_grammars() {
  std::vector<Grammar> grammars;
  for (const char* schema :
       {R"({})", R"({"type":"array","items":{"type":"string"}})",
        R"({"type":"object","properties":{"name":{"type":"string"},"b":{"type":"number"},
               "a":{"enum":["ab","abc",1]}},"required":["name"]})",
        R"({"type":"object","properties":{"a":{"type":"integer"}},
               "additionalProperties":{"$ref":"#"}})",
        R"({"type":"string","minLength":2,"maxLength":4})",
        R"({"anyOf":[{"type":"object","properties":{"a":{"const":1}}},
               {"type":"object","properties":{"ab":{"type":"boolean"}}}]})"}) {
    grammars.push_back(value_or_fail(parse_json_schema(Json::parse(schema))));
    grammars.push_back(
        value_or_fail(parse_json_schema(Json::parse(schema), {JsonSpacing::kCompact})));
  }
  for (const char* source : {"root ::= \"(\" root \")\" root | \"\"",
                             "root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"\"",
                             "root ::= x+\nx ::= [ab]+ | \"{\" root \"}\" | \"\xE2\x82\xAC\"",
                             "root ::= (y | z)*\ny ::= \"1\" z?\nz ::= \"2\" y | \"12\""}) {
    grammars.push_back(value_or_fail(parse_ebnf(source)));
  }
  grammars.push_back(value_or_fail(parse_regex(R"((\w+é.|"[^"]{1,5}")*)")));
  return grammars;
}

// Walks to a random place of the grammar; calls visit at each token on the way.
template <class Visit>
void walk(Machine* machine, size_t num_tokens, std::mt19937* random, Visit visit) {
  Matcher matcher = machine->matcher();
  for (size_t i = 0; i < num_tokens; ++i) {
    visit(&matcher);
    std::vector<int32_t> allowed = machine->allowed(matcher);
    std::erase(allowed, stop_token(machine->vocabulary));
    if (allowed.empty()) return;
    // Most tokens are single bytes: prefer the others.
    const int32_t token = allowed[(*random)() % allowed.size()];
    const int32_t longer = allowed[allowed.size() - 1 - (*random)() % ((allowed.size() + 3) / 4)];
    ASSERT_TRUE(matcher.accept((*random)() % 2 == 0 ? token : longer));
  }
}

void expect_mask_is_accept(const Machine& machine, const Matcher& matcher,
                           const std::vector<uint64_t>& mask) {
  for (size_t id = 0; id < machine.vocabulary.size(); ++id) {
    Matcher fork = matcher;
    const bool is_allowed = (mask[id / 64] >> (id % 64) & 1) != 0;
    ASSERT_EQ(fork.accept(static_cast<int32_t>(id)), is_allowed)
        << "token '" << machine.vocabulary.bytes(static_cast<int32_t>(id)) << "'";
  }
}

TEST(Matcher, AMaskHasWhatIsAccepted) {
  std::mt19937 random(1);
  for (Grammar& grammar : sample_grammars()) {
    Machine machine(std::move(grammar), test_vocabulary(json_tokens()));
    for (int trial = 0; trial < test::scaled(8); ++trial) {
      walk(&machine, 25, &random, [&](Matcher* matcher) {
        expect_mask_is_accept(machine, *matcher, machine.mask(*matcher));
      });
    }
  }
}

// A token's last bytes decide, where its first ones are those of another character.
TEST(Matcher, CharactersThatBeginAlikeAreTold) {
  Machine machine(value_or_fail(parse_regex("[\u00e9\u20ac\U0001F601]")),
                  test_vocabulary({"\U0001F600", "\U0001F601", "\u20ac"}));
  const Matcher matcher = machine.matcher();
  expect_mask_is_accept(machine, matcher, machine.mask(matcher));
}

// Each return may end at any run of spaces: the ends must not multiply.
TEST(Matcher, EndsThatComeTogetherAreOne) {
  std::vector<std::string> spaces;
  for (size_t i = 1; i <= 16; ++i) spaces.emplace_back(i, ' ');
  Machine machine(value_or_fail(parse_ebnf("root ::= \"!\" root ws | \"x\"\nws ::= \" \"*")),
                  test_vocabulary(spaces));
  Matcher matcher = machine.matcher();
  for (const char c : std::string(20, '!') + "x") ASSERT_TRUE(matcher.accept(uint8_t(c)));
  expect_mask_is_accept(machine, matcher, machine.mask(matcher));
}

TEST(Matcher, RollbackAndForksGiveEqualMasks) {
  std::mt19937 random(2);
  for (Grammar& grammar : sample_grammars()) {
    Machine machine(std::move(grammar), test_vocabulary(json_tokens()));
    for (int trial = 0; trial < test::scaled(8); ++trial) {
      std::vector<std::vector<uint64_t>> masks;
      Matcher last = machine.matcher();
      walk(&machine, 25, &random, [&](Matcher* matcher) {
        ASSERT_EQ(matcher->num_accepted(), masks.size());
        masks.push_back(machine.mask(*matcher));
        last = *matcher;
      });
      while (masks.size() > 1) {
        const size_t count = 1 + random() % std::min<size_t>(masks.size() - 1, 4);
        last.rollback(count);
        masks.resize(masks.size() - count);
        ASSERT_EQ(machine.mask(last), masks.back());
        // Another way and back changes nothing.
        const std::vector<int32_t> allowed = machine.allowed(last);
        if (!allowed.empty() && last.accept(allowed[random() % allowed.size()])) last.rollback(1);
        ASSERT_EQ(machine.mask(last), masks.back());
      }
    }
  }
}

TEST(Matcher, MasksDependOnBytesNotOnTokens) {
  std::vector<Grammar> grammars = sample_grammars();
  std::vector<std::unique_ptr<Machine>> machines;
  for (Grammar& grammar : grammars) {
    machines.push_back(
        std::make_unique<Machine>(std::move(grammar), test_vocabulary(json_tokens())));
  }
  const bool holds = rc::check("masks at equal byte positions are equal", [&](uint32_t seed) {
    std::mt19937 random(seed);
    Machine& machine = *machines[random() % machines.size()];
    std::string text;
    walk(&machine, 20, &random, [&](Matcher*) {});
    Matcher writer = machine.matcher();
    for (int i = 0; i < 20; ++i) {
      std::vector<int32_t> allowed = machine.allowed(writer);
      std::erase(allowed, stop_token(machine.vocabulary));
      if (allowed.empty()) break;
      const int32_t token = allowed[random() % allowed.size()];
      RC_ASSERT(writer.accept(token));
      text += machine.vocabulary.bytes(token);
    }
    std::map<size_t, std::vector<uint64_t>> masks;  // by byte position
    for (int cut = 0; cut < 3; ++cut) {
      Matcher matcher = machine.matcher();
      size_t position = 0;
      for (const int32_t token : random_tokens(machine.vocabulary, text, &random)) {
        const std::vector<uint64_t> mask = machine.mask(matcher);
        RC_ASSERT(masks.try_emplace(position, mask).first->second == mask);
        RC_ASSERT((mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0);
        RC_ASSERT(matcher.accept(token));
        position += machine.vocabulary.bytes(token).size();
      }
    }
  });
  EXPECT_TRUE(holds);
}

TEST(Matcher, DraftsGetAMaskEachUpToTheFirstRefused) {
  Machine machine(value_or_fail(parse_regex("abc(d|e)")), test_vocabulary({"ab", "bc"}));
  Matcher matcher = machine.matcher();
  const size_t words_each = mask_words(machine.vocabulary.size());
  const std::vector<int32_t> draft = {'a', 'b', 'c', 'x', 'e'};
  std::vector<uint64_t> words((draft.size() + 1) * words_each, ~uint64_t{0});
  EXPECT_EQ(matcher.fill_draft_masks(draft, words_each, words), 4u);
  EXPECT_EQ(matcher.num_accepted(), 0u);
  Matcher plain = machine.matcher();
  for (size_t i = 0; i < 4; ++i) {
    const std::vector<uint64_t> mask = machine.mask(plain);
    EXPECT_TRUE(std::equal(mask.begin(), mask.end(),
                           words.begin() + static_cast<ptrdiff_t>(i * words_each)));
    EXPECT_EQ(plain.accept(draft[i]), i < 3);
  }
  EXPECT_EQ(words[4 * words_each], ~uint64_t{0});  // not written
}

TEST(Matcher, StopTokensEndCompleteTextsOnly) {
  Machine machine(value_or_fail(parse_regex("ab?")));
  const int32_t stop = stop_token(machine.vocabulary);
  Matcher matcher = machine.matcher();
  EXPECT_FALSE(matcher.accept(stop));
  ASSERT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.is_complete());
  EXPECT_EQ(machine.allowed(matcher), (std::vector<int32_t>{'b', stop}));
  ASSERT_TRUE(matcher.accept(stop));
  EXPECT_TRUE(matcher.is_stopped());
  EXPECT_TRUE(machine.allowed(matcher).empty());
  EXPECT_FALSE(matcher.accept('b'));
  EXPECT_FALSE(matcher.accept(stop));
  EXPECT_EQ(matcher.jump_forward(), "");
  matcher.rollback(1);
  EXPECT_TRUE(matcher.accept('b'));
  EXPECT_EQ(machine.allowed(matcher), (std::vector<int32_t>{stop}));
  EXPECT_FALSE(matcher.accept(-1));
  EXPECT_FALSE(matcher.accept(100'000));
}

TEST(Matcher, JumpsForwardToTheNextChoice) {
  const char* schema = R"({"type":"object","properties":{"name":{"type":"string"},
      "kind":{"enum":["alpha","alpine"]}},"required":["name","kind"]})";
  Machine machine(value_or_fail(parse_json_schema(Json::parse(schema), {JsonSpacing::kCompact})));
  Matcher matcher = machine.matcher();
  EXPECT_EQ(matcher.jump_forward(), "{\"name\":\"");
  EXPECT_EQ(matcher.jump_forward(3), "{\"n");
  EXPECT_EQ(matcher.num_accepted(), 0u);
  ASSERT_TRUE(matcher.accept_text("{\"name\":\"x"));
  EXPECT_EQ(matcher.jump_forward(), "");
  ASSERT_TRUE(matcher.accept('"'));
  EXPECT_EQ(matcher.jump_forward(), ",\"kind\":\"alp");
  const auto bytes_as_tokens = [](std::string_view text) {
    return std::vector<int32_t>(text.begin(), text.end());
  };
  EXPECT_EQ(matcher.jump_forward_tokens(bytes_as_tokens).size(), 12u);
  const auto wrong_third = [](std::string_view) { return std::vector<int32_t>{',', '"', 'x'}; };
  EXPECT_EQ(matcher.jump_forward_tokens(wrong_third), (std::vector<int32_t>{',', '"'}));
  ASSERT_TRUE(matcher.accept_text(",\"kind\":\"alpi"));
  EXPECT_EQ(matcher.jump_forward(), "ne\"}");
  ASSERT_TRUE(matcher.accept_text("ne\"}"));
  EXPECT_TRUE(matcher.is_complete());
}

TEST(Vocabulary, KnowsLongerTokens) {
  const Vocabulary vocabulary = test_vocabulary({"ab", "abcd", "bc"});
  for (const char* text : {"", "a", "ab", "abc", "b"}) {
    EXPECT_TRUE(vocabulary.has_longer(text)) << text;
  }
  for (const char* text : {"abcd", "bc", "c", "abcde", "bcd"}) {
    EXPECT_FALSE(vocabulary.has_longer(text)) << text;
  }
}

TEST(Matcher, ACharacterMayComeInPieces) {
  Machine machine(value_or_fail(parse_regex("[é€😀]+")), test_vocabulary({"\x9F\x98", "\xAC\xC3"}));
  Matcher matcher = machine.matcher();
  EXPECT_EQ(machine.allowed(matcher), (std::vector<int32_t>{0xC3, 0xE2, 0xF0}));
  ASSERT_TRUE(matcher.accept(0xF0));
  EXPECT_EQ(machine.allowed(matcher), (std::vector<int32_t>{0x9F, 256}));
  EXPECT_EQ(matcher.jump_forward(), "\x9F\x98\x80");
  ASSERT_TRUE(matcher.accept(256));
  EXPECT_FALSE(matcher.is_complete());
  ASSERT_TRUE(matcher.accept(0x80));
  EXPECT_TRUE(matcher.is_complete());
  ASSERT_TRUE(matcher.accept_text("\xE2\x82"));
  EXPECT_EQ(machine.allowed(matcher), (std::vector<int32_t>{0xAC, 257}));
}

TEST(Matcher, StatesThatDifferBehindNestedCallsHaveTheirOwnMasks) {
  std::string rules = "root ::= \"a\" p0 \"z\" | \"b\" q0 \"z\"\n";
  for (int i = 0; i < 6; ++i) {
    for (const char name : {'p', 'q'}) {  // recursive, so that they stay rules
      rules += fmt::format("{0}{1} ::= {0}{2} \"z\" | \"(\" {0}{1} \")\"\n", name, i, i + 1);
    }
  }
  Machine machine(value_or_fail(parse_ebnf(rules + "p6 ::= \"c\"\nq6 ::= \"d\"")));
  Matcher after_a = machine.matcher(), after_b = machine.matcher();
  ASSERT_TRUE(after_a.accept('a') && after_b.accept('b'));
  EXPECT_EQ(machine.allowed(after_a), (std::vector<int32_t>{'(', 'c'}));
  EXPECT_EQ(machine.allowed(after_b), (std::vector<int32_t>{'(', 'd'}));
}

TEST(Matcher, ATextMayEndBelowManyCalls) {
  Machine machine(value_or_fail(parse_ebnf("root ::= \"a\" root \"b\"? | \"c\"")));
  Matcher matcher = machine.matcher();
  ASSERT_TRUE(matcher.accept_text(std::string(1100, 'a') + "c"));
  EXPECT_TRUE(matcher.is_complete());
}

TEST(Matcher, ATableThatIsFullComputesMasksEachTime) {
  const Grammar grammar = value_or_fail(parse_json_schema(Json::parse("{}")));
  const Vocabulary vocabulary = test_vocabulary(json_tokens());
  MaskTable roomy(grammar, vocabulary);
  MaskTable full(grammar, vocabulary, {.max_bytes = 500});
  full.prepare();
  Matcher a(&roomy), b(&full);
  std::vector<uint64_t> mask_a(mask_words(vocabulary.size()));
  std::vector<uint64_t> mask_b(mask_a.size());
  for (const char c : std::string(R"([{"a":[1,"b"]},"c)")) {
    a.fill_mask(mask_a);
    b.fill_mask(mask_b);
    ASSERT_EQ(mask_a, mask_b);
    ASSERT_TRUE(a.accept(c) && b.accept(c));
  }
  EXPECT_LE(full.num_bytes(), 500u);
  EXPECT_GT(roomy.num_bytes(), 500u);
}

TEST(Matcher, ThreadsShareATable) {
  Machine machine(value_or_fail(parse_json_schema(Json::parse("{}"))),
                  test_vocabulary(json_tokens()));
  std::vector<std::thread> threads;
  std::vector<std::vector<std::vector<uint64_t>>> masks(4);
  for (size_t i = 0; i < masks.size(); ++i) {
    threads.emplace_back([&machine, &own = masks[i]] {
      Matcher matcher(&machine.masks);
      for (const char c : std::string(R"({"a":[1,"b",{"c":true}]})")) {
        own.push_back(machine.mask(matcher));
        matcher.accept(static_cast<uint8_t>(c));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 1; i < masks.size(); ++i) EXPECT_EQ(masks[i], masks[0]);
}

}  // namespace
}  // namespace ultraspeed::grammar
