#include "server/grammar_cache.h"

#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/one_of.h"
#include "grammar/regex.h"

namespace ultraspeed::server {
namespace {

// No text has as long a token.
constexpr size_t kMaxTokenBytes = 1 << 12;

std::shared_ptr<const grammar::Vocabulary> vocabulary_of(const text::Tokenizer& tokenizer,
                                                         std::span<const int32_t> stop_ids) {
  std::vector<std::string_view> tokens(tokenizer.vocab_size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (!tokenizer.is_special(id) && bytes.size() <= kMaxTokenBytes) tokens[i] = bytes;
  }
  std::vector<int32_t> stops;
  for (const int32_t id : stop_ids) {
    if (id >= 0 && static_cast<size_t>(id) < tokens.size()) stops.push_back(id);
  }
  auto vocabulary = grammar::Vocabulary::make(tokens, stops);
  US_CHECK(vocabulary, "{}", vocabulary.error().message);
  return std::make_shared<const grammar::Vocabulary>(*std::move(vocabulary));
}

Result<grammar::Grammar> compile(const GrammarSource& source) {
  using Kind = GrammarSource::Kind;
  using grammar::JsonSpacing;
  const grammar::JsonSchemaOptions json{source.is_compact ? JsonSpacing::kCompact
                                                          : JsonSpacing::kFlexible};
  switch (source.kind) {
    case Kind::kJsonObject:
      return grammar::json_object_grammar(json);
    case Kind::kJsonSchema:
      return grammar::parse_json_schema(Json::parse(source.text), json);
    case Kind::kRegex:
      return grammar::parse_regex(source.text);
    case Kind::kChoice:
      return grammar::one_of(Json::parse(source.text).get<std::vector<std::string>>());
    case Kind::kEbnf:
      return grammar::parse_ebnf(source.text);
  }
  US_CHECK(false, "grammar of kind {}", static_cast<int>(source.kind));
}

}  // namespace

CompiledGrammar::CompiledGrammar(grammar::Grammar grammar,
                                 std::shared_ptr<const grammar::Vocabulary> vocabulary)
    : grammar_(std::move(grammar)),
      vocabulary_(std::move(vocabulary)),
      masks_(grammar_, *vocabulary_, {.max_bytes = GrammarCache::kMaxMaskBytes}) {}

GrammarCache::GrammarCache(const text::Tokenizer& tokenizer, std::span<const int32_t> stop_ids)
    : vocabulary_(vocabulary_of(tokenizer, stop_ids)) {}

// Two threads that miss the same grammar both compile it; the second finds the first one's.
Result<std::shared_ptr<CompiledGrammar>> GrammarCache::get(const GrammarSource& source) {
  if (auto known = find(source)) return known;
  US_ASSIGN(grammar::Grammar grammar, compile(source));
  const auto compiled = std::make_shared<CompiledGrammar>(std::move(grammar), vocabulary_);
  if (auto known = find(source)) return known;
  {
    const std::lock_guard lock(mutex_);
    entries_.push_front({source, compiled});
    drop_oldest();
  }
  preparing_.run([compiled] { compiled->prepare(); });
  return compiled;
}

std::shared_ptr<CompiledGrammar> GrammarCache::find(const GrammarSource& source) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const GrammarSource& known = entry->source;
    if (known.kind != source.kind || known.is_compact != source.is_compact) continue;
    if (known.text != source.text) continue;
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
