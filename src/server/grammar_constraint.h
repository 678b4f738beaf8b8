// A grammar as the engine's constraint. An answer may think before it: the grammar is that of the
// text behind "</think>", as in vLLM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "grammar/matcher.h"
#include "server/grammar_cache.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// How an answer begins.
enum class Thinking {
  kNone,  // with what the grammar is about
  kMay,   // the same, or with "<think>" where the vocabulary has it as a token
  kOpen,  // inside of a think block
};

// Stop tokens wait until the grammar's text is complete, so that an answer that stops has kept to
// it. Where bytes must come, the tokens are those that the tokenizer makes of them, up to the last,
// which may be the begin of a longer one: a model knows its text in these tokens, and as drafts
// they are sure.
class GrammarConstraint final : public engine::TokenConstraint {
 public:
  // REQUIRES: the tokenizer outlives it.
  GrammarConstraint(std::shared_ptr<CompiledGrammar> grammar, const text::Tokenizer& tokenizer,
                    Thinking thinking);

  void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) override;
  // What must come, as the tokenizer cuts it.
  void propose(uint32_t limit, std::vector<int32_t>* drafts) override;
  void advance(int32_t token_id) override;
  std::unique_ptr<engine::TokenConstraint> clone() const override {
    return std::make_unique<GrammarConstraint>(*this);
  }

 private:
  enum class Phase { kStart, kThinking, kGrammar, kRefused };
  struct Place {
    Phase phase = Phase::kGrammar;
    size_t num_matched = 0;   // kThinking: bytes of "</think>" that the text ends with
    size_t num_accepted = 0;  // by the matcher
  };

  Place after(Place place, int32_t token_id);
  Place after_thought(Place place, int32_t token_id);
  std::vector<int32_t> encode(std::string_view text) const;
  std::optional<int32_t> forced_token();
  void follow(std::span<const int32_t> drafts);
  void go_back(size_t num_drafts);

  std::shared_ptr<CompiledGrammar> grammar_;
  const text::Tokenizer* tokenizer_;
  std::optional<int32_t> think_id_;
  grammar::Matcher matcher_;  // at places_.back()
  // After the output, and after each draft that was followed. Masks are asked for draft by draft.
  std::vector<Place> places_;
  std::vector<int32_t> drafts_;
  std::vector<uint64_t> allowed_;
};

}  // namespace ultraspeed::server
