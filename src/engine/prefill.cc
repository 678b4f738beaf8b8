// A prompt's way through the prefill program, chunk by chunk.
#include <algorithm>
#include <utility>
#include <vector>

#include "engine/program_engine.h"

namespace ultraspeed::engine {

Status ProgramEngine::gather_prompt(uint32_t slot, std::vector<StepEvent>* events) {
  if (settings_.num_cached_prefixes > 0) US_TRY(look_again(slot));
  Session& session = *sessions_[slot];
  uint32_t count = std::min(session.num_pending(), programs_[kPrefill].width);
  // MTP heads look at as many tokens after a chunk: a rest of fewer takes some of this one's.
  const uint32_t num_left = session.num_pending() - count;
  if (num_left > 0 && num_left < num_mtp_heads_) count -= num_mtp_heads_ - num_left;
  if (!admit_or_end(slot, count, events)) return {};
  US_TRY(keep_prefix(slot, count));
  session.append_columns(count, slot, &columns_);
  shares_.push_back({slot, count, 0});
  return {};
}

// The prompt's tokens that a chunk's columns tell something of: each column of the next one. Those
// of the first `num_told` columns were told before the session lost its pages.
std::vector<Token> ProgramEngine::take_prompt_tokens(const Session& session, const Share& share,
                                                     uint32_t first, uint32_t num_told) {
  const std::span<const int32_t> prompt = session.prompt();
  std::vector<Token> tokens;
  for (uint32_t i = 0; i < share.count; ++i) {
    const uint32_t position = first + i;
    if (position < num_told || position >= prompt.size()) continue;
    if (position == 0) tokens.push_back({prompt[0], 0, {}});
    if (position + 1 == prompt.size()) continue;
    program::ColumnOutput& output = output_.columns[share.begin + i];
    tokens.push_back({prompt[position + 1], output.logprob, std::move(output.top_logprobs)});
  }
  return tokens;
}

// Takes over what the step computed of a prompt.
void ProgramEngine::deliver_prompt(const Share& share, std::vector<StepEvent>* events) {
  Session& session = *sessions_[share.slot];
  const uint32_t num_done = session.prompt_tokens_done();
  const bool tells_prompt = session.params().num_prompt_logprobs.has_value();
  std::vector<Token> prompt_tokens;
  if (tells_prompt) {
    prompt_tokens = take_prompt_tokens(session, share, session.num_cached(), num_done);
  }
  session.advance(share.count);
  const bool has_more = session.num_pending() > 0;
  const bool has_advanced = session.prompt_tokens_done() > num_done;
  if (has_advanced && (has_more || tells_prompt)) {
    add_event(session, events).prompt_tokens = std::move(prompt_tokens);
  }
  if (has_more) return;
  scheduler_.prompt_done(share.slot);
  const size_t last = share.begin + share.count - 1;
  if (take_token(session, last, events)) {
    end_session(share.slot);
  } else {  // MTP heads propose on the first column with logits
    session.take_proposed(&output_.columns[tells_prompt ? share.begin : last]);
  }
}

}  // namespace ultraspeed::engine
