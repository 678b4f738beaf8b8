#include "program/step_check.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"

namespace ultraspeed::program {
namespace {

bool same_weights(const Program& a, const Program& b) {
  const auto same = [](const WeightDecl& x, const WeightDecl& y) {
    return x.format == y.format && x.rows == y.rows && x.cols == y.cols && x.count == y.count &&
           x.rank_stride == y.rank_stride;
  };
  return std::equal(a.weights.begin(), a.weights.end(), b.weights.begin(), b.weights.end(), same);
}

bool same_caches(const Program& a, const Program& b) {
  const auto same = [](const CacheDecl& x, const CacheDecl& y) {
    return x.num_kv_heads == y.num_kv_heads && x.head_dim == y.head_dim &&
           x.v_head_dim == y.v_head_dim && x.ring_positions == y.ring_positions &&
           x.rank_stride == y.rank_stride;
  };
  return a.kv_page_positions == b.kv_page_positions &&
         std::equal(a.caches.begin(), a.caches.end(), b.caches.begin(), b.caches.end(), same);
}

// Whether column i goes on with the sequence of the one before.
bool is_continued(std::span<const Column> columns, size_t i) {
  return i > 0 && columns[i - 1].sequence == columns[i].sequence;
}

// What drafting asks of column i (program/step.h).
Status check_drafted(const Program& program, std::span<const Column> columns, size_t i) {
  const Column& column = columns[i];
  const bool is_drafting = program.is_drafting();
  if (column.is_drafted && !is_drafting) {
    return make_error(ErrorCode::kInvalidArgument,
                      "column {} is drafted, but program '{}' has no draft part", i, program.name);
  }
  const bool continues = is_continued(columns, i);
  if (column.is_drafted && !continues) {
    return make_error(ErrorCode::kInvalidArgument,
                      "column {} is drafted, expected a column of sequence {} before it", i,
                      column.sequence);
  }
  if (is_drafting && continues && column.position != columns[i - 1].position + 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "column {} is at position {} after {}; expected no gap in a draft block", i,
                      column.position, columns[i - 1].position);
  }
  return {};
}

// What MTP heads ask of a sequence that ends with column i.
Status check_followed(uint32_t num_heads, std::span<const Column> columns, size_t i) {
  bool has_logits = columns[i].wants_logits;
  for (size_t first = i; is_continued(columns, first); --first) {
    if (columns[first].position != columns[first - 1].position + 1) {
      return make_error(ErrorCode::kInvalidArgument,
                        "column {} is at position {} after {}; expected no gap before MTP heads",
                        first, columns[first].position, columns[first - 1].position);
    }
    has_logits |= columns[first - 1].wants_logits;
  }
  if (has_logits || columns[i].next_tokens.size() >= num_heads) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "column {} ends sequence {} without logits; expected the {} tokens after it "
                    "for as many MTP heads, not {}",
                    i, columns[i].sequence, num_heads, columns[i].next_tokens.size());
}

}  // namespace

namespace {

// Errors unless `token_id` is one of the vocabulary, or none.
Status check_token(std::string_view what, int32_t token_id, size_t vocab_size, uint32_t position) {
  if (token_id < 0 || static_cast<size_t>(token_id) < vocab_size) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "sampling after position {}: the {} token is {}, expected 0 to {}", position,
                    what, token_id, vocab_size - 1);
}

}  // namespace

Status check_sampling(const ColumnSampling& sampling, uint32_t position, size_t vocab_size) {
  US_TRY(check_token("forced", sampling.forced_token_id, vocab_size, position));
  US_TRY(check_token("proposed", sampling.proposed_token_id, vocab_size, position));
  const size_t num_logits = sampling.proposed_logits.size();
  if (num_logits != 0 && (num_logits != vocab_size || sampling.proposed_token_id < 0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "sampling after position {}: {} logits of proposed token {}, expected {} of "
                      "one of the vocabulary",
                      position, num_logits, sampling.proposed_token_id, vocab_size);
  }
  for (const LogitAdjustment& adjustment : sampling.adjustments) {
    const auto id = static_cast<size_t>(adjustment.token_id);
    if (adjustment.token_id >= 0 && id < vocab_size) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "sampling after position {}: an adjustment names token {}, expected 0 to {}",
                      position, adjustment.token_id, vocab_size - 1);
  }
  const size_t num_words = token_mask_words(vocab_size);
  if (sampling.allowed.empty() || sampling.allowed.size() == num_words) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "sampling after position {}: a mask of {} words for {} tokens, expected {}",
                    position, sampling.allowed.size(), vocab_size, num_words);
}

Status check_no_gaps(const StepInput& input) {
  const auto& columns = input.columns;
  for (size_t i = 1; i < columns.size(); ++i) {
    if (!is_continued(columns, i) || columns[i].position == columns[i - 1].position + 1) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "column {} is at position {} after {}; expected no gap with a KV cache of "
                      "tiles",
                      i, columns[i].position, columns[i - 1].position);
  }
  return {};
}

void check_copy(const CacheLimits& limits, const CacheCopy& copy) {
  US_CHECK(std::max(copy.from_sequence, copy.to_sequence) < limits.num_sequences,
           "sequences {} to {}, of {}", copy.from_sequence, copy.to_sequence, limits.num_sequences);
  for (const auto& [from, to] : copy.pages) {
    US_CHECK(std::max(from, to) < limits.num_kv_pages, "pages {} to {}, of {}", from, to,
             limits.num_kv_pages);
  }
}

bool share_memory(const Program& a, const Program& b) {
  return a.num_ranks == b.num_ranks && same_weights(a, b) && same_caches(a, b);
}

Status check_step(const Program& program, const CacheLimits& limits, const StepInput& input) {
  const size_t count = input.columns.size();
  if (count == 0 || count > program.width) {
    return make_error(ErrorCode::kInvalidArgument, "program '{}' takes 1 to {} columns, not {}",
                      program.name, program.width, count);
  }
  const uint32_t num_heads = program.num_mtp_heads();
  for (size_t i = 0; i < count; ++i) {
    const Column& column = input.columns[i];
    if (column.sequence >= limits.num_sequences || column.sequence >= input.page_tables.size()) {
      return make_error(ErrorCode::kInvalidArgument, "column {}: no sequence {}", i,
                        column.sequence);
    }
    US_TRY(check_drafted(program, input.columns, i));
    const bool is_last = i + 1 == count || !is_continued(input.columns, i + 1);
    if (num_heads != 0 && is_last) US_TRY(check_followed(num_heads, input.columns, i));
    const auto& pages = input.page_tables[column.sequence];
    const uint32_t needed = column.position / program.kv_page_positions + 1;
    const bool pages_valid =
        pages.size() >= needed && std::all_of(pages.begin(), pages.begin() + needed,
                                              [&](uint32_t p) { return p < limits.num_kv_pages; });
    if (!pages_valid) {
      return make_error(ErrorCode::kInvalidArgument,
                        "column {}: position {} needs {} KV pages of sequence {}, its table has {}",
                        i, column.position, needed, column.sequence, pages.size());
    }
  }
  return {};
}

}  // namespace ultraspeed::program
