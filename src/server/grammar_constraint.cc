#include "server/grammar_constraint.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr std::string_view kThinkEnd = "</think>";
// At a time: what a block has room for.
constexpr size_t kMaxForcedBytes = 64;

}  // namespace

GrammarConstraint::GrammarConstraint(std::shared_ptr<CompiledGrammar> grammar,
                                     const text::Tokenizer& tokenizer, Thinking thinking)
    : grammar_(std::move(grammar)), tokenizer_(&tokenizer), matcher_(grammar_->matcher()) {
  Place start;
  if (thinking == Thinking::kOpen) start.phase = Phase::kThinking;
  if (thinking == Thinking::kMay) {
    think_id_ = tokenizer.find_token("<think>");
    if (think_id_) start.phase = Phase::kStart;
  }
  places_.push_back(start);
  allowed_.resize(grammar::mask_words(grammar_->vocabulary().size()));
}

void GrammarConstraint::mask(std::span<const int32_t> drafts, std::span<uint64_t> words) {
  follow(drafts);
  const Phase phase = places_.back().phase;
  const auto has_word = [&](int32_t id) { return static_cast<size_t>(id) / 64 < words.size(); };
  const auto bit_of = [](int32_t id) { return uint64_t{1} << id % 64; };
  if (phase == Phase::kThinking) {
    for (const int32_t id : grammar_->vocabulary().stop_ids()) {
      if (has_word(id)) words[static_cast<size_t>(id) / 64] &= ~bit_of(id);
    }
    return;
  }
  const std::optional<int32_t> forced = forced_token();
  if (forced || phase == Phase::kRefused) {
    std::ranges::fill(allowed_, 0);
  } else {
    matcher_.fill_mask(allowed_);
  }
  if (forced) allowed_[static_cast<size_t>(*forced) / 64] |= bit_of(*forced);
  if (phase == Phase::kStart) allowed_[static_cast<size_t>(*think_id_) / 64] |= bit_of(*think_id_);
  for (size_t i = 0; i < words.size(); ++i) words[i] &= i < allowed_.size() ? allowed_[i] : 0;
}

void GrammarConstraint::propose(uint32_t limit, std::vector<int32_t>* drafts) {
  go_back(0);
  if (places_.back().phase != Phase::kGrammar) return;
  const std::vector<int32_t> forced = matcher_.jump_forward_tokens(
      [this](std::string_view text) { return encode(text); }, kMaxForcedBytes);
  const auto count = static_cast<ptrdiff_t>(std::min<size_t>(limit, forced.size()));
  drafts->insert(drafts->end(), forced.begin(), forced.begin() + count);
}

std::vector<int32_t> GrammarConstraint::encode(std::string_view text) const {
  return tokenizer_->encode(text, {.parse_special = grammar_->has_markers()})
      .value_or(std::vector<int32_t>());
}

// The only token that comes next at the matcher's place, if there is one.
std::optional<int32_t> GrammarConstraint::forced_token() {
  if (places_.back().phase == Phase::kRefused) return std::nullopt;
  const std::string forced = matcher_.jump_forward(kMaxForcedBytes);
  if (forced.size() < 2 || grammar_->vocabulary().has_longer(forced)) return std::nullopt;
  const std::vector<int32_t> tokens = encode(forced);
  if (tokens.size() < 2 || !matcher_.accept(tokens.front())) return std::nullopt;
  matcher_.rollback(1);
  return tokens.front();
}

void GrammarConstraint::advance(int32_t token_id) {
  if (drafts_.empty() || drafts_.front() != token_id) {
    go_back(0);
    follow({&token_id, 1});
  }
  drafts_.erase(drafts_.begin());
  places_.erase(places_.begin());
}

// Keeps what these drafts have in common with those before.
void GrammarConstraint::follow(std::span<const int32_t> drafts) {
  const auto [known, draft] = std::ranges::mismatch(drafts_, drafts);
  go_back(static_cast<size_t>(known - drafts_.begin()));
  for (const int32_t id : drafts.subspan(drafts_.size())) {
    places_.push_back(after(places_.back(), id));
    drafts_.push_back(id);
  }
}

void GrammarConstraint::go_back(size_t num_drafts) {
  drafts_.resize(num_drafts);
  places_.resize(num_drafts + 1);
  matcher_.rollback(matcher_.num_accepted() - places_.back().num_accepted);
}

GrammarConstraint::Place GrammarConstraint::after(Place place, int32_t token_id) {
  if (place.phase == Phase::kThinking) return after_thought(place, token_id);
  if (place.phase == Phase::kRefused) return place;
  if (place.phase == Phase::kStart && token_id == *think_id_) {
    place.phase = Phase::kThinking;
    return place;
  }
  place.phase = matcher_.accept(token_id) ? Phase::kGrammar : Phase::kRefused;
  place.num_accepted = matcher_.num_accepted();
  return place;
}

// Looks at the text, as the parser of answers does: no matter in which tokens the marker is
// spelled.
// '<' occurs in it only at its begin, so that a mismatch can restart there alone.
GrammarConstraint::Place GrammarConstraint::after_thought(Place place, int32_t token_id) {
  std::string_view bytes = tokenizer_->token_bytes(token_id);
  while (!bytes.empty() && place.num_matched < kThinkEnd.size()) {
    const char c = bytes.front();
    bytes.remove_prefix(1);
    if (c == kThinkEnd[place.num_matched]) {
      ++place.num_matched;
    } else {
      place.num_matched = c == kThinkEnd[0] ? 1 : 0;
    }
  }
  if (place.num_matched < kThinkEnd.size()) return place;
  const bool is_allowed = bytes.empty() || matcher_.accept_text(bytes);
  place.phase = is_allowed ? Phase::kGrammar : Phase::kRefused;
  place.num_accepted = matcher_.num_accepted();
  return place;
}

}  // namespace ultraspeed::server
