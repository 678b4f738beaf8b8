// grammar_masks TOKENIZER [WALKS]: what a grammar's masks cost with the tokenizer's vocabulary, and
// with 150,000 tokens: its own and random pairs of them. For each grammar: compiling it, preparing
// its masks, then random texts that it allows, token by token, twice: with a table as prepare()
// leaves it, and with one that has seen them. With the tokenizer's own vocabulary also as a session
// does it: a constraint's masks, which know what must come, and its advance by each token. Times in
// us, of the processor.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "bench_steps.h"
#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"
#include "grammar/regex.h"
#include "server/grammar_constraint.h"
#include "text/tokenizer.h"

namespace ultraspeed {
namespace {

constexpr size_t kManyTokens = 150'000;
constexpr size_t kMaxPairBytes = 20;
constexpr size_t kMaxWalkTokens = 400;

// Of this thread: what else the machine does is left out.
double cpu_us() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
}

struct Example {
  std::string name;
  server::GrammarSource source;

  Result<grammar::Grammar> compile() const {
    using Kind = server::GrammarSource::Kind;
    if (source.kind == Kind::kRegex) return grammar::parse_regex(source.text);
    if (source.kind == Kind::kEbnf) return grammar::parse_ebnf(source.text);
    return grammar::parse_json_schema(grammar::Json::parse(source.text));
  }
};

Example schema(const std::string& name, const std::string& text) {
  return {name, {server::GrammarSource::Kind::kJsonSchema, text, ""}};
}

std::vector<Example> examples() {
  return {
      schema("any value", "{}"),
      schema("record", R"({"type":"object","properties":{"name":{"type":"string"},
        "age":{"type":"integer","minimum":0,"maximum":150},"email":{"type":"string"},
        "tags":{"type":"array","items":{"type":"string"}},"active":{"type":"boolean"}},
        "required":["name","age"],"additionalProperties":false})"),
      schema("tool call", R"({"anyOf":[{"type":"object","properties":{"name":{"const":"read"},
        "arguments":{"type":"object","properties":{"path":{"type":"string"},
        "limit":{"type":"integer"}},"required":["path"]}},"required":["name","arguments"]},
        {"type":"object","properties":{"name":{"const":"write"},"arguments":{"type":"object",
        "properties":{"path":{"type":"string"},"text":{"type":"string"}},
        "required":["path","text"]}},"required":["name","arguments"]}]})"),
      schema("tree", R"({"$defs":{"node":{"type":"object","properties":{"value":{"type":"number"},
        "children":{"type":"array","items":{"$ref":"#/$defs/node"}}},
        "required":["value","children"]}},"$ref":"#/$defs/node"})"),
      schema("map", R"({"type":"object","properties":{"id":{"type":"string","format":"uuid"},
        "when":{"type":"string","format":"date-time"}},"required":["id"],
        "additionalProperties":{"type":"number"}})"),
      schema("bounded strings", R"({"type":"array","items":{"type":"object","properties":{
        "title":{"type":"string","minLength":1,"maxLength":80},
        "code":{"type":"string","pattern":"^[A-Z]{2,4}-\\d{1,6}$"},
        "note":{"type":"string","maxLength":1000}},"required":["title","code","note"]}})"),
      {"regex", {server::GrammarSource::Kind::kRegex, R"((\w+@\w+\.(com|org)(, )?)+)", ""}},
      {"EBNF JSON",
       {server::GrammarSource::Kind::kEbnf, R"(
root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (string ws ":" ws value ws ("," ws string ws ":" ws value ws)*)? "}"
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+-]? [0-9]+)?
ws ::= [ \t\n]*)",
        ""}}};
}

std::vector<std::string> many_tokens(const std::vector<std::string>& tokens) {
  std::vector<std::string> all = tokens;
  std::unordered_set<std::string> seen(tokens.begin(), tokens.end());
  std::mt19937 random(1);
  while (all.size() < kManyTokens) {
    std::string pair = tokens[random() % tokens.size()] + tokens[random() % tokens.size()];
    if (pair.size() <= kMaxPairBytes && seen.insert(pair).second) all.push_back(std::move(pair));
  }
  return all;
}

grammar::Vocabulary vocabulary_of(const std::vector<std::string>& tokens, int32_t stop_id) {
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  return value_or_exit(grammar::Vocabulary::make(views, {&stop_id, 1}));
}

// Any allowed token, or one of those with the fewest bytes, which end strings and values.
int32_t choose(const grammar::Vocabulary& vocabulary, const std::vector<uint64_t>& mask,
               std::mt19937* random) {
  std::vector<int32_t> allowed, shortest;
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    if ((mask[id / 64] >> (id % 64) & 1) == 0) continue;
    allowed.push_back(static_cast<int32_t>(id));
    const std::string_view bytes = vocabulary.bytes(allowed.back());
    if (bytes.empty() || std::string_view("\"}],:0").find(bytes) != std::string_view::npos) {
      shortest.push_back(allowed.back());
    }
  }
  if (allowed.empty()) return -1;
  const auto& from = shortest.empty() || (*random)() % 3 != 0 ? allowed : shortest;
  return from[(*random)() % from.size()];
}

// The times of the masks of a random text.
void walk(grammar::MaskTable* table, std::mt19937* random, std::vector<double>* mask_us) {
  grammar::Matcher matcher(table);
  std::vector<uint64_t> mask(grammar::mask_words(table->vocabulary().size()));
  for (size_t i = 0; i < kMaxWalkTokens && !matcher.is_stopped(); ++i) {
    const double begin = cpu_us();
    matcher.fill_mask(mask);
    mask_us->push_back(cpu_us() - begin);
    if (!matcher.accept(choose(table->vocabulary(), mask, random))) return;
  }
}

// The same by a session's constraint.
void walk_served(server::GrammarConstraint constraint, const grammar::Vocabulary& vocabulary,
                 std::mt19937* random, std::vector<double>* mask_us) {
  std::vector<uint64_t> mask(grammar::mask_words(vocabulary.size()));
  for (size_t i = 0; i < kMaxWalkTokens; ++i) {
    std::fill(mask.begin(), mask.end(), ~uint64_t{0});
    const double begin = cpu_us();
    constraint.mask({}, mask);
    const double end = cpu_us();
    const int32_t token = choose(vocabulary, mask, random);
    if (token < 0) return;
    const double advance_begin = cpu_us();
    constraint.advance(token);
    mask_us->push_back(end - begin + cpu_us() - advance_begin);
  }
}

std::string quantiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
  };
  return fmt::format("{:8.1f} {:8.1f} {:8.1f}", at(0.5), at(0.99), at(1));
}

std::vector<double> served_times(const Example& example, const text::Tokenizer& tokenizer,
                                 int32_t stop_id, int num_walks) {
  server::GrammarCache cache(tokenizer, {&stop_id, 1});
  const auto compiled = value_or_exit(cache.get(example.source));
  compiled->prepare();
  const server::GrammarConstraint start(compiled, tokenizer, server::Thinking::kNone);
  std::vector<double> served_us;
  std::mt19937 random(2);
  for (int i = 0; i < num_walks; ++i) {
    walk_served(start, compiled->vocabulary(), &random, &served_us);
  }
  return served_us;
}

// Without the end of the line.
void measure(const Example& example, const grammar::Vocabulary& vocabulary, int num_walks) {
  double begin = cpu_us();
  const grammar::Grammar grammar = value_or_exit(example.compile());
  const double compile_us = cpu_us() - begin;
  begin = cpu_us();
  grammar::MaskTable table(grammar, vocabulary);
  table.prepare();
  const double prepare_us = cpu_us() - begin;
  std::vector<double> first_us, again_us;
  for (std::vector<double>* mask_us : {&first_us, &again_us}) {
    std::mt19937 random(2);
    for (int i = 0; i < num_walks; ++i) walk(&table, &random, mask_us);
  }
  fmt::print("{:16} {:7} {:8.0f} {:9.0f} {:7.1f} {:8} {} {}", example.name, grammar.num_states(),
             compile_us, prepare_us, static_cast<double>(table.num_bytes()) / 1e6, first_us.size(),
             quantiles(first_us), quantiles(again_us));
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc < 2) {
    fmt::print(stderr, "usage: grammar_masks TOKENIZER [WALKS]\n");
    return 2;
  }
  const int num_walks = argc > 2 ? std::atoi(argv[2]) : 100;
  const auto tokenizer = value_or_exit(text::Tokenizer::load(argv[1]));
  std::vector<std::string> tokens;
  for (size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    tokens.emplace_back(tokenizer.is_special(id) ? "" : tokenizer.token_bytes(id));
  }
  const auto stop_id =
      static_cast<int32_t>(std::find(tokens.begin(), tokens.end(), std::string()) - tokens.begin());
  for (const std::vector<std::string>& all : {tokens, many_tokens(tokens)}) {
    const grammar::Vocabulary vocabulary = vocabulary_of(all, stop_id);
    fmt::print("{} tokens, {} nodes\n{:16} {:>7} {:>8} {:>9} {:>7} {:>8} {:>26} {:>26} {:>26}\n",
               vocabulary.size(), vocabulary.num_nodes(), "", "states", "compile", "prepare", "MB",
               "masks", "first: median, p99, max", "again: median, p99, max",
               "served: median, p99, max");
    for (const Example& example : examples()) {
      measure(example, vocabulary, num_walks);
      const bool is_own = all.size() == tokens.size();
      fmt::print(" {}\n", is_own ? quantiles(served_times(example, tokenizer, stop_id, num_walks))
                                 : std::string("-"));
    }
  }
  return 0;
}
