// What the engine asks of a step's output before it believes it.
#include <algorithm>

#include "engine/program_engine.h"

namespace ultraspeed::engine {

Status ProgramEngine::check_output() const {
  if (output_.columns.size() != columns_.size()) {
    return make_error(ErrorCode::kInternal, "the executor returned {} columns of {}",
                      output_.columns.size(), columns_.size());
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    const int32_t token_id = output_.columns[i].token_id;
    if (!columns_[i].wants_logits) continue;
    if (token_id >= 0 && static_cast<uint32_t>(token_id) < settings_.vocab_size) continue;
    return make_error(ErrorCode::kInternal,
                      "the executor chose token {} after position {}, expected 0 to {}", token_id,
                      columns_[i].position, settings_.vocab_size - 1);
  }
  for (const Share& share : shares_) {
    US_TRY(check_accepted(share));
    US_TRY(check_proposed(share));
  }
  return {};
}

// The caches hold the accepted drafts, the output what was chosen: these are the same tokens.
Status ProgramEngine::check_accepted(const Share& share) const {
  const uint32_t num_accepted = output_.columns[share.begin].accepted;
  if (num_accepted >= share.count) {
    return make_error(ErrorCode::kInternal, "the executor accepted {} of {} drafts", num_accepted,
                      share.count - 1);
  }
  for (size_t i = share.begin; i < share.begin + num_accepted; ++i) {
    const program::Column& draft = columns_[i + 1];
    const int32_t id = draft.is_drafted ? output_.columns[i + 1].drafted_id : draft.token_id;
    if (id == output_.columns[i].token_id) continue;
    return make_error(ErrorCode::kInternal,
                      "the executor accepted token {} at position {}, but chose {} for it", id,
                      draft.position, output_.columns[i].token_id);
  }
  return {};
}

// Where a text goes on, each MTP head has proposed a token of the vocabulary, with its logits if it
// was to draw it.
Status ProgramEngine::check_proposed(const Share& share) const {
  const auto begin = columns_.begin() + static_cast<ptrdiff_t>(share.begin);
  const auto end = begin + static_cast<ptrdiff_t>(share.count);
  const auto first =
      std::find_if(begin, end, [](const program::Column& column) { return column.wants_logits; });
  if (first == end) return {};
  const program::ColumnOutput& output =
      output_.columns[static_cast<size_t>(first - columns_.begin())];
  const std::vector<int32_t>& ids = output.proposed_ids;
  if (ids.size() != num_mtp_heads_) {
    return make_error(ErrorCode::kInternal,
                      "the executor proposed {} tokens after position {}, expected {}", ids.size(),
                      first->position, num_mtp_heads_);
  }
  for (const int32_t id : ids) {
    if (id >= 0 && static_cast<uint32_t>(id) < settings_.vocab_size) continue;
    return make_error(ErrorCode::kInternal,
                      "the executor proposed token {} after position {}, expected 0 to {}", id,
                      first->position, settings_.vocab_size - 1);
  }
  const size_t num_drawn = first->sampling.draws() ? num_mtp_heads_ : 0;
  const auto is_row = [&](const auto& row) { return row.size() == settings_.vocab_size; };
  if (output.proposed_logits.size() == num_drawn &&
      std::ranges::all_of(output.proposed_logits, is_row)) {
    return {};
  }
  return make_error(ErrorCode::kInternal,
                    "the executor gave {} rows of logits with its proposals after position {}, "
                    "expected {} of {}",
                    output.proposed_logits.size(), first->position, num_drawn,
                    settings_.vocab_size);
}

}  // namespace ultraspeed::engine
