#include "engine/session.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace ultraspeed::engine {
namespace {

// Tokens that prompt and output may have together.
uint32_t token_limit(uint32_t prompt_size, uint32_t max_tokens, uint32_t max_context) {
  US_CHECK(prompt_size > 0 && prompt_size < max_context, "prompt of {} tokens, context of {}",
           prompt_size, max_context);
  const uint32_t room = max_context - prompt_size;
  return prompt_size + (max_tokens == 0 ? room : std::min(max_tokens, room));
}

}  // namespace

Session::Session(SessionId id, std::span<const int32_t> prompt, GenerationParams params,
                 uint32_t max_context, uint32_t vocab_size, KvPageTable pages,
                 std::unique_ptr<HostDrafter> drafter)
    : id_(id),
      params_(std::move(params)),
      tokens_(prompt.begin(), prompt.end()),
      prompt_size_(static_cast<uint32_t>(prompt.size())),
      max_tokens_(token_limit(prompt_size_, params_.max_tokens, max_context)),
      penalties_(params_.sampling, prompt),
      pages_(std::move(pages)),
      drafter_(std::move(drafter)),
      vocab_size_(vocab_size) {
  const bool may_program_draft =
      session_drafter(DrafterKind::kDflash, params_.sampling) == DrafterKind::kDflash;
  US_CHECK(drafter_ != nullptr || may_program_draft,
           "session {}: its parameters ask about drafts that the host does not know", id);
  if (params_.sampling.constraint == nullptr) return;
  initial_constraint_ = params_.sampling.constraint->clone();
  constraint_ = initial_constraint_->clone();
  params_.sampling.constraint = initial_constraint_.get();
}

// Computing position p needs the window before it; a ring has lost what lies its length before the
// last position written.
uint32_t Session::num_forkable(uint32_t ring_slack) const {
  const uint32_t position = std::min(num_cached_, prompt_size_ - 1);
  return num_written_ - position <= ring_slack ? position : 0;
}

void Session::adopt(uint32_t num_positions, uint32_t num_written) {
  US_CHECK(is_untouched(), "session {} has computed positions {} to {}", id_, num_adopted_,
           num_cached_);
  num_cached_ = num_adopted_ = num_positions;
  num_written_ = num_written;
  if (prompt_tokens_done_ <= prompt_tokens_cached_) {
    prompt_tokens_cached_ = std::min(num_positions, prompt_size_);
  }
  prompt_tokens_done_ = std::max(prompt_tokens_done_, std::min(num_positions, prompt_size_));
}

void Session::advance(uint32_t count) {
  num_cached_ += count;
  prompt_tokens_done_ = std::max(prompt_tokens_done_, std::min(num_cached_, prompt_size_));
}

bool Session::loses_mark(uint32_t count, const PrefixRules& rules) {
  const uint32_t num_written = std::max(num_written_, num_cached_ + count);
  const auto is_lost = [&](uint32_t mark) { return mark < rules.first_usable(num_written); };
  const auto is_held = [&](uint32_t mark) { return mark >= rules.first_usable(num_written_); };
  const bool loses =
      std::ranges::any_of(marks_, [&](uint32_t mark) { return is_lost(mark) && is_held(mark); });
  std::erase_if(marks_, is_lost);
  return loses;
}

void Session::lose_pages() {
  pages_.clear();
  num_cached_ = num_written_ = num_adopted_ = 0;
}

PrefixCache::Prefix Session::take_remains() {
  tokens_.resize(num_held());
  pages_.shrink(num_held());
  return {std::move(params_.cache_domain), std::move(tokens_), num_written_, std::move(pages_),
          id_};
}

void Session::append_columns(uint32_t count, uint32_t sequence,
                             std::vector<program::Column>* columns) {
  US_CHECK(count > 0 && count <= num_pending(), "{} of {} pending tokens", count, num_pending());
  for (uint32_t position = num_cached_; position < num_cached_ + count; ++position) {
    add_column(position, tokens_[position], sequence, columns);
    if (!params_.num_prompt_logprobs || position + 1 >= prompt_size_) continue;
    columns->back().wants_logits = true;
    columns->back().sampling.forced_token_id = tokens_[position + 1];
    columns->back().sampling.num_logprobs = *params_.num_prompt_logprobs;
  }
  if (count == num_pending()) {
    ask_for_logits(penalties_.adjustments(), 0, &columns->back());
  } else if (!columns->back().wants_logits) {
    columns->back().next_tokens = std::span(tokens_).subspan(num_cached_ + count);
  }
}

uint32_t Session::propose_block(uint32_t size) {
  US_CHECK(num_pending() == 1 && size > 0, "{} pending tokens, block of {}", num_pending(), size);
  const uint32_t num_left = max_tokens_ - static_cast<uint32_t>(tokens_.size());
  const uint32_t limit = params_.speculates ? std::min(size, num_left) - 1 : 0;
  drafts_.clear();
  if (drafter_ == nullptr) {
    drafts_.resize(limit);
  } else {
    if (constraint_ != nullptr) constraint_->propose(limit, &drafts_);
    if (drafts_.empty()) drafter_->propose(tokens_, limit, &drafts_);
    cut_forbidden_drafts();
  }
  return 1 + static_cast<uint32_t>(drafts_.size());
}

void Session::append_block(uint32_t count, uint32_t sequence,
                           std::vector<program::Column>* columns) {
  US_CHECK(count > 0 && count <= drafts_.size() + 1, "{} columns of {}", count, drafts_.size() + 1);
  const uint32_t num_drafts = count - 1;
  const size_t anchor = columns->size();
  append_columns(1, sequence, columns);
  draft_adjustments_.resize(num_drafts);
  std::optional<Penalties> ahead;  // with the drafts so far
  if (num_drafts > 0 && penalties_.depend_on_output()) ahead = penalties_;
  for (uint32_t i = 0; i < num_drafts; ++i) {
    add_column(num_cached_ + 1 + i, drafts_[i], sequence, columns);
    columns->back().is_drafted = drafter_ == nullptr;
    std::span<const program::LogitAdjustment> adjustments = penalties_.adjustments();
    if (ahead) {
      ahead->count_output(drafts_[i]);
      draft_adjustments_[i].assign(ahead->adjustments().begin(), ahead->adjustments().end());
      adjustments = draft_adjustments_[i];
    }
    ask_for_logits(adjustments, i + 1, &columns->back());
  }
  if (params_.sampling.acceptance == Acceptance::kKeyed || drafter_ == nullptr) return;
  for (uint32_t i = 0; i < num_drafts; ++i) {
    program::ColumnSampling& sampling = (*columns)[anchor + i].sampling;
    sampling.proposed_token_id = drafts_[i];
    sampling.proposed_logits = drafter_->logits_of(i);
  }
}

void Session::add_column(uint32_t position, int32_t token_id, uint32_t sequence,
                         std::vector<program::Column>* columns) {
  program::Column& column = columns->emplace_back();
  column.token_id = token_id;
  column.position = position;
  column.sequence = sequence;
  num_written_ = std::max(num_written_, position + 1);
}

// A draft that may not be chosen is wrong whatever the target says. Where nothing may follow one, a
// column could choose nothing: without it the target's own choice, if it is the same, ends the
// text.
void Session::cut_forbidden_drafts() {
  if (constraint_ == nullptr) return;
  for (size_t i = 0; i < drafts_.size(); ++i) {
    const bool is_allowed = program::contains(mask_after(i), static_cast<size_t>(drafts_[i]));
    if (is_allowed && allows_after(i + 1)) continue;
    drafts_.resize(i);
  }
}

// Which tokens may follow the output and the first drafts; empty without a constraint. Valid until
// add_token().
program::TokenMask Session::mask_after(size_t num_drafts) {
  if (constraint_ == nullptr) return {};
  if (masks_.size() <= num_drafts) masks_.resize(num_drafts + 1);
  std::vector<uint64_t>& mask = masks_[num_drafts];
  if (mask.empty()) {
    mask.assign(program::token_mask_words(vocab_size_), ~uint64_t{0});
    constraint_->mask(std::span(drafts_).first(num_drafts), mask);
    const uint32_t beyond = static_cast<uint32_t>(mask.size()) * 64 - vocab_size_;
    mask.back() &= ~uint64_t{0} >> beyond;  // ids that no token has
  }
  return mask;
}

bool Session::allows_after(size_t num_drafts) {
  const program::TokenMask mask = mask_after(num_drafts);
  return mask.empty() || std::ranges::any_of(mask, [](uint64_t word) { return word != 0; });
}

void Session::ask_for_logits(std::span<const program::LogitAdjustment> adjustments,
                             size_t num_drafts, program::Column* column) {
  const SamplingParams& from = params_.sampling;
  column->wants_logits = true;
  column->sampling.temperature = from.temperature;
  column->sampling.top_k = from.top_k;
  column->sampling.top_p = from.top_p;
  column->sampling.min_p = from.min_p;
  column->sampling.seed = from.seed;
  // A constraint cuts a block at what it forbids, which drafts drawn by chance must not decide.
  column->sampling.draws_draft =
      from.acceptance == Acceptance::kRejection && constraint_ == nullptr;
  column->sampling.num_logprobs = from.num_logprobs;
  column->sampling.adjustments = adjustments;
  column->sampling.allowed = mask_after(num_drafts);
}

std::optional<FinishReason> Session::add_token(int32_t token_id) {
  tokens_.push_back(token_id);
  penalties_.count_output(token_id);
  if (constraint_ != nullptr) constraint_->advance(token_id);
  for (std::vector<uint64_t>& mask : masks_) mask.clear();
  const auto& stop_ids = params_.stop_ids;
  if (!params_.ignore_eos &&
      std::find(stop_ids.begin(), stop_ids.end(), token_id) != stop_ids.end()) {
    return FinishReason::kStop;
  }
  if (tokens_.size() >= max_tokens_) return FinishReason::kLength;
  return std::nullopt;
}

}  // namespace ultraspeed::engine
