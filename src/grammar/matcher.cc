// Positions are kept, so that going back is shortening lists.
#include "grammar/matcher.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::grammar {

Matcher::Matcher(MaskTable* masks) : masks_(masks) {
  items_.push_back({masks->grammar().start(), kBottom});
  history_.push_back({0, stacks_.mark(), false});
}

bool Matcher::accept(int32_t token) {
  const Vocabulary& vocabulary = masks_->vocabulary();
  if (is_stopped() || token < 0 || static_cast<size_t>(token) >= vocabulary.size()) return false;
  if (vocabulary.is_stop(token)) {
    if (!is_complete()) return false;
    history_.push_back({static_cast<uint32_t>(items_.size()), stacks_.mark(), true});
    return true;
  }
  const std::string_view bytes = vocabulary.bytes(token);
  return !bytes.empty() && advance(bytes);
}

bool Matcher::accept_text(std::string_view text) {
  return !is_stopped() && advance(text);
}

bool Matcher::advance(std::string_view bytes) {
  const auto new_begin = static_cast<uint32_t>(items_.size());
  std::vector<Item> current(items().begin(), items().end());
  std::vector<Item> next;
  for (const char byte : bytes) {
    next.clear();
    stacks_.advance(masks_->grammar(), current, static_cast<uint8_t>(byte), &next);
    current.swap(next);
    if (!current.empty()) continue;
    stacks_.truncate(history_.back().mark);
    return false;
  }
  items_.insert(items_.end(), current.begin(), current.end());
  history_.push_back({new_begin, stacks_.mark(), false});
  return true;
}

void Matcher::rollback(size_t num_tokens) {
  US_CHECK(num_tokens <= num_accepted(), "{} of {} tokens", num_tokens, num_accepted());
  if (num_tokens == 0) return;
  items_.resize(history_[history_.size() - num_tokens].items_begin);
  history_.resize(history_.size() - num_tokens);
  stacks_.truncate(history_.back().mark);
}

void Matcher::fill_mask(std::span<uint64_t> words) const {
  std::fill(words.begin(), words.end(), uint64_t{0});
  if (is_stopped()) return;
  masks_->add_allowed(stacks_, items(), words);
  if (!is_complete()) return;
  for (const int32_t id : masks_->vocabulary().stop_ids()) {
    words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
  }
}

size_t Matcher::fill_draft_masks(std::span<const int32_t> draft, size_t words_each,
                                 std::span<uint64_t> words) {
  US_CHECK(words.size() >= (draft.size() + 1) * words_each, "{} words for {} drafts of {}",
           words.size(), draft.size(), words_each);
  const size_t num_before = num_accepted();
  size_t num_masks = 0;
  do {
    fill_mask(words.subspan(num_masks * words_each, words_each));
    ++num_masks;
  } while (num_masks <= draft.size() && accept(draft[num_masks - 1]));
  rollback(num_accepted() - num_before);
  return num_masks;
}

bool Matcher::is_complete() const {
  if (is_stopped()) return false;
  std::vector<Item> reached(items().begin(), items().end());
  stacks_.add_returns(masks_->grammar(), &reached);
  return std::any_of(reached.begin(), reached.end(), [&](Item item) {
    return item.node == kBottom && masks_->grammar().is_final(item.state);
  });
}

ByteSet Matcher::next_bytes() const {
  std::vector<Item> reached(items().begin(), items().end());
  stacks_.add_returns(masks_->grammar(), &reached);
  ByteSet bytes;
  for (const Item& item : reached) bytes |= masks_->grammar().first_bytes(item.state);
  return bytes;
}

std::string Matcher::jump_forward(size_t max_bytes) {
  std::string forced;
  while (forced.size() < max_bytes && !is_stopped() && !is_complete()) {
    const ByteSet bytes = next_bytes();
    if (bytes.size() != 1) break;
    const char byte = static_cast<char>(bytes.front());
    if (!advance({&byte, 1})) break;
    forced += byte;
  }
  rollback(forced.size());
  return forced;
}

std::vector<int32_t> Matcher::jump_forward_tokens(const Encode& encode, size_t max_bytes) {
  const std::string forced = jump_forward(max_bytes);
  if (forced.empty()) return {};
  std::vector<int32_t> tokens = encode(forced);
  size_t num_allowed = 0;
  while (num_allowed < tokens.size() && accept(tokens[num_allowed])) ++num_allowed;
  rollback(num_allowed);
  tokens.resize(num_allowed);
  return tokens;
}

}  // namespace ultraspeed::grammar
