#include "server/grammar_cache.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/one_of.h"
#include "grammar/regex.h"
#include "server/call_grammar.h"

namespace ultraspeed::server {
namespace {

using grammar::ExprId;
using grammar::GrammarBuilder;
using grammar::RuleId;

// No text has as long a token.
constexpr size_t kMaxTokenBytes = 1 << 12;

constexpr std::array<std::string_view, 2> kCallMarkers = {kToolCallOpen, kToolCallClose};
// Those that end an answer are left to the stop tokens.
constexpr std::array<std::string_view, 5> kChannelMarkers = {
    kHarmonyStart, kHarmonyChannel, kHarmonyMessage, kHarmonyConstrain, kHarmonyEnd};

using MarkerNames = std::span<const std::string_view>;

MarkerNames grammar_markers(ToolSyntax syntax) {
  if (syntax == ToolSyntax::kHarmony) return kChannelMarkers;
  return kCallMarkers;
}

// Special tokens are no text, but for the markers that a grammar is about.
std::shared_ptr<const grammar::Vocabulary> vocabulary_of(const text::Tokenizer& tokenizer,
                                                         std::span<const int32_t> stop_ids,
                                                         MarkerNames markers) {
  std::vector<std::string_view> tokens(tokenizer.vocab_size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (!tokenizer.is_special(id) && bytes.size() <= kMaxTokenBytes) tokens[i] = bytes;
  }
  for (const std::string_view marker : markers) {
    if (const auto id = tokenizer.find_token(marker)) tokens[static_cast<size_t>(*id)] = marker;
  }
  std::vector<int32_t> stops;
  for (const int32_t id : stop_ids) {
    if (id >= 0 && static_cast<size_t>(id) < tokens.size()) stops.push_back(id);
  }
  auto vocabulary = grammar::Vocabulary::make(tokens, stops);
  US_CHECK(vocabulary, "{}", vocabulary.error().message);
  return std::make_shared<const grammar::Vocabulary>(*std::move(vocabulary));
}

grammar::JsonSchemaOptions json_options(const GrammarSource& source) {
  return {source.is_compact ? grammar::JsonSpacing::kCompact : grammar::JsonSpacing::kFlexible};
}

RuleId add_rule(std::string name, ExprId body, GrammarBuilder* builder) {
  const RuleId rule = builder->add_rule(std::move(name));
  builder->set_body(rule, body);
  return rule;
}

Result<RuleId> add_format(const GrammarSource& source, GrammarBuilder* builder) {
  using Kind = GrammarSource::Kind;
  switch (source.kind) {
    case Kind::kNone:
      return add_rule("root", builder->choice({}), builder);
    case Kind::kJsonObject:
    case Kind::kJsonSchema: {
      const Json schema = source.kind == Kind::kJsonObject ? grammar::any_object_schema()
                                                           : Json::parse(source.text);
      US_ASSIGN(const std::vector<RuleId> rules,
                grammar::add_json_schema(schema, std::vector<std::string>{"#"},
                                         json_options(source), builder));
      return rules.front();
    }
    case Kind::kRegex: {
      const grammar::RegexOptions options;
      US_ASSIGN(const ExprId body, grammar::add_regex(source.text, options, builder));
      return add_rule(options.name, body, builder);
    }
    case Kind::kChoice: {
      const auto texts = Json::parse(source.text).get<std::vector<std::string>>();
      US_ASSIGN(const ExprId body, grammar::add_one_of(texts, builder));
      return add_rule("root", body, builder);
    }
    case Kind::kEbnf:
      return grammar::add_ebnf(source.text, builder);
  }
  US_CHECK(false, "grammar of kind {}", static_cast<int>(source.kind));
}

// Rules that somebody has written are many small ones; those of schemas are shared.
grammar::BuildOptions build_options(const GrammarSource& source) {
  const bool is_ebnf = source.kind == GrammarSource::Kind::kEbnf;
  return {.max_inlined_states = is_ebnf ? grammar::kMaxInlinedStates : 0};
}

Result<grammar::Grammar> compile_format(const GrammarSource& source) {
  GrammarBuilder builder;
  US_ASSIGN(RuleId root, add_format(source, &builder));
  if (source.has_channels) {
    const ExprId answer = add_channels(builder.call(root), {}, &builder);
    root = add_rule("answer", answer, &builder);
  }
  return builder.build(root, build_options(source));
}

Result<grammar::Grammar> compile_with_calls(const GrammarSource& source, bool types_only) {
  GrammarBuilder builder;
  US_ASSIGN(const RuleId format, add_format(source, &builder));
  US_ASSIGN(const ExprId calls, add_calls(*source.calls, types_only, &builder));
  const ExprId answer = source.has_channels ? add_channels(builder.call(format), calls, &builder)
                                            : builder.choice({builder.call(format), calls});
  const RuleId root = add_rule("answer", answer, &builder);
  return builder.build(root, build_options(source));
}

bool has_strict_tool(const Json& tools) {
  return std::ranges::any_of(
      tools, [](const Json& tool) { return tool["function"].value("strict", Json()) == true; });
}

// Schemas that are too much together are so of all tools, which promise nothing unless strict.
Result<grammar::Grammar> compile(const GrammarSource& source) {
  if (!source.calls) return compile_format(source);
  auto grammar = compile_with_calls(source, /*types_only=*/false);
  if (grammar || has_strict_tool(source.calls->tools)) return grammar;
  return compile_with_calls(source, /*types_only=*/true);
}

}  // namespace

CompiledGrammar::CompiledGrammar(grammar::Grammar grammar,
                                 std::shared_ptr<const grammar::Vocabulary> vocabulary,
                                 bool has_markers)
    : grammar_(std::move(grammar)),
      vocabulary_(std::move(vocabulary)),
      has_markers_(has_markers),
      masks_(grammar_, *vocabulary_, {.max_bytes = GrammarCache::kMaxMaskBytes}) {}

GrammarCache::GrammarCache(const text::Tokenizer& tokenizer, std::span<const int32_t> stop_ids,
                           ToolSyntax syntax)
    : text_vocabulary_(vocabulary_of(tokenizer, stop_ids, {})),
      marked_vocabulary_(vocabulary_of(tokenizer, stop_ids, grammar_markers(syntax))) {}

// Two threads that miss the same grammar both compile it; the second finds the first one's.
Result<std::shared_ptr<CompiledGrammar>> GrammarCache::get(const GrammarSource& source,
                                                           const std::string& client) {
  if (auto known = find(source, client)) return known;
  US_ASSIGN(grammar::Grammar grammar, compile(source));
  const bool has_markers = source.calls.has_value() || source.has_channels;
  const auto compiled = std::make_shared<CompiledGrammar>(
      std::move(grammar), has_markers ? marked_vocabulary_ : text_vocabulary_, has_markers);
  if (auto known = find(source, client)) return known;
  {
    const std::lock_guard lock(mutex_);
    entries_.push_front({client, source, compiled});
    drop_oldest();
  }
  if (num_preparing_.load() < kMaxPreparing) {
    ++num_preparing_;
    preparing_.run([this, waiting = std::weak_ptr(compiled)] {
      if (const auto wanted = waiting.lock()) wanted->prepare();
      --num_preparing_;
    });
  }
  return compiled;
}

std::shared_ptr<CompiledGrammar> GrammarCache::find(const GrammarSource& source,
                                                    const std::string& client) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->client != client || !entry->source.is_same_language(source)) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    drop_oldest();  // masks may have been made since
    return entries_.front().grammar;
  }
  return nullptr;
}

// The newest stays, however large.
void GrammarCache::drop_oldest() {
  size_t num_bytes = 0;
  for (const Entry& entry : entries_) num_bytes += entry.grammar->num_bytes();
  while (entries_.size() > 1 && (entries_.size() > kMaxGrammars || num_bytes > kMaxBytes)) {
    num_bytes -= entries_.back().grammar->num_bytes();
    entries_.pop_back();
  }
}

size_t GrammarCache::num_grammars() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace ultraspeed::server
