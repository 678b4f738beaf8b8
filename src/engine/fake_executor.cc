#include "engine/fake_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

namespace ultraspeed::engine {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9u;
}

uint64_t mix(uint64_t hash, float value) {
  return mix(hash, uint64_t{std::bit_cast<uint32_t>(value)});
}

uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t hash = 1;
  for (const int32_t token_id : tokens) hash = mix(hash, static_cast<uint64_t>(token_id));
  return hash;
}

// The Accept operation (program/operands.h).
void accept(std::span<const program::Column> columns, program::StepOutput* output) {
  for (size_t i = 0, end = 0; i < columns.size(); i = end) {
    for (end = i; end < columns.size() && columns[end].sequence == columns[i].sequence;) ++end;
    while (i < end && !columns[i].wants_logits) ++i;
    for (size_t next = i + 1; next < end; ++next) {
      if (columns[next].token_id != output->columns[next - 1].token_id) break;
      ++output->columns[i].accepted;
    }
  }
}

}  // namespace

std::vector<program::Program> FakeExecutor::make_programs(uint32_t decode_width,
                                                          uint32_t prefill_width,
                                                          uint32_t page_positions, bool is_drafting,
                                                          uint32_t num_mtp_heads) {
  program::Program decode;
  decode.name = "decode";
  decode.width = decode_width;
  decode.kv_page_positions = page_positions;
  decode.caches.push_back({1, 4, 4, kRingPositions});
  if (page_positions != 0) decode.caches.push_back({1, 4, 4, 0});
  program::AttentionOperands sliding;
  sliding.cache = 0;
  sliding.window = kWindow;
  decode.stages.push_back({"attention", 0, sliding});
  for (uint32_t head = 0; head < num_mtp_heads; ++head) {
    decode.stages.push_back({"follow", 0, program::FollowOperands()});
  }
  program::Program prefill = decode;
  prefill.name = "prefill";
  prefill.width = prefill_width;
  if (is_drafting) decode.stages.push_back({"propose", 0, program::ProposeOperands()});
  return {decode, prefill};
}

int32_t FakeExecutor::choose(std::span<const int32_t> tokens,
                             const program::ColumnSampling& sampling) {
  if (sampling.forced_token_id >= 0) return sampling.forced_token_id;
  uint64_t hash = mix(hash_of(tokens), sampling.seed);
  hash = mix(mix(hash, sampling.temperature), uint64_t{sampling.top_k});
  hash = mix(mix(hash, sampling.top_p), sampling.min_p);
  for (const auto& adjustment : sampling.adjustments) {
    if (adjustment.repetition == 1 && adjustment.bias == 0) continue;
    hash = mix(hash, static_cast<uint64_t>(adjustment.token_id));
    hash = mix(mix(hash, adjustment.repetition), adjustment.bias);
  }
  return static_cast<int32_t>(hash % kVocabSize);
}

float FakeExecutor::logprob(std::span<const int32_t> tokens, int32_t next_token_id) {
  const uint64_t hash = mix(hash_of(tokens), static_cast<uint64_t>(next_token_id));
  return -static_cast<float>(hash % 1000) / 100;
}

Status FakeExecutor::load(std::vector<program::Program> programs,
                          const program::CacheLimits& limits,
                          const program::WeightReader& /*read_weight*/) {
  if (next_error) return tl::unexpected(*std::exchange(next_error, std::nullopt));
  programs_ = std::move(programs);
  limits_ = limits;
  pages_.assign(size_t{limits.num_kv_pages} * programs_[0].kv_page_positions, -1);
  rings_.assign(size_t{limits.num_sequences} * kRingPositions, -1);
  sequences_.resize(limits.num_sequences);
  return {};
}

Status FakeExecutor::run(uint32_t index, const program::StepInput& input,
                         program::StepOutput* output) {
  if (next_error) return tl::unexpected(*std::exchange(next_error, std::nullopt));
  check_columns(index, input);
  Record record{index, {}};
  std::vector<program::Column> columns(input.columns.begin(), input.columns.end());
  draft(&columns);
  // As on a real executor, a step's rows are all written before any is read.
  for (const program::Column& column : columns) {
    write(column, input.page_tables[column.sequence]);
    record.columns.push_back(column);
    record.columns.back().sampling.adjustments = {};
  }
  output->columns.clear();
  for (const program::Column& column : columns) {
    check_caches(column, input.page_tables[column.sequence]);
    output->columns.push_back(choose_token(column));
    if (column.is_drafted) output->columns.back().drafted_id = column.token_id;
  }
  accept(columns, output);
  propose(programs_[index].num_mtp_heads(), columns, output);
  if (std::exchange(misreports_a_draft, false)) {
    for (program::ColumnOutput& column : output->columns) ++column.drafted_id;
  }
  output->draft_s = draft_s;
  if (next_accepted) output->columns[0].accepted = *std::exchange(next_accepted, std::nullopt);
  steps.push_back(std::move(record));
  if (std::exchange(drops_a_column, false)) output->columns.pop_back();
  return {};
}

// Fills in the tokens of drafted columns.
void FakeExecutor::draft(std::vector<program::Column>* columns) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < columns->size(); ++i) {
    program::Column& column = (*columns)[i];
    if (column.is_drafted) {
      const int32_t next = choose(tokens, (*columns)[i - 1].sampling);
      const int32_t other = (next + 1) % static_cast<int32_t>(kVocabSize);
      column.token_id = hash_of(tokens) % 3 == 0 ? other : next;
    } else {
      const auto& sequence = sequences_[column.sequence];
      tokens.assign(sequence.begin(),
                    sequence.begin() + std::min<ptrdiff_t>(column.position, std::ssize(sequence)));
    }
    tokens.push_back(column.token_id);
  }
}

// What MTP heads propose after a sequence's accepted column.
void FakeExecutor::propose(uint32_t num_heads, std::span<const program::Column> columns,
                           program::StepOutput* output) {
  for (size_t i = 0; i < columns.size(); ++i) {
    const bool is_first =
        i == 0 || columns[i - 1].sequence != columns[i].sequence || !columns[i - 1].wants_logits;
    if (!columns[i].wants_logits || !is_first) continue;
    const size_t accepted = i + output->columns[i].accepted;
    const auto& sequence = sequences_[columns[i].sequence];
    std::vector<int32_t> tokens(sequence.begin(),
                                sequence.begin() + ptrdiff_t{columns[accepted].position} + 1);
    tokens.push_back(output->columns[accepted].token_id);
    auto& proposed = output->columns[i].proposed_ids;
    if (columns[accepted].sampling.draws() && !drops_drawn_logits) {
      output->columns[i].proposed_logits.assign(num_heads, std::vector<float>(kVocabSize));
    }
    for (uint32_t head = 0; head < num_heads; ++head) {
      const int32_t next = choose(tokens, columns[accepted].sampling);
      const bool is_right = hash_of(tokens) % 3 != 0;
      tokens.push_back(is_right ? next : (next + 1) % static_cast<int32_t>(kVocabSize));
      proposed.push_back(tokens.back());
    }
    if (next_proposed) proposed = *std::exchange(next_proposed, std::nullopt);
  }
}

program::ColumnOutput FakeExecutor::choose_token(const program::Column& column) {
  program::ColumnOutput result;
  if (!column.wants_logits) return result;
  const auto tokens = std::span(sequences_[column.sequence]).first(column.position + 1);
  result.token_id = choose(tokens, column.sampling);
  if (next_token_id) result.token_id = *std::exchange(next_token_id, std::nullopt);
  result.logprob = logprob(tokens, result.token_id);
  for (uint32_t i = 0; i < column.sampling.num_logprobs; ++i) {
    result.top_logprobs.emplace_back(static_cast<int32_t>(i), -static_cast<float>(i));
  }
  return result;
}

Status FakeExecutor::copy_cache(const program::CacheCopy& copy) {
  if (next_error) return tl::unexpected(*std::exchange(next_error, std::nullopt));
  const auto copy_piece = [](std::vector<int32_t>& rows, size_t from, size_t to, size_t size) {
    std::copy_n(rows.begin() + static_cast<ptrdiff_t>(from * size), size,
                rows.begin() + static_cast<ptrdiff_t>(to * size));
  };
  sequences_.at(copy.to_sequence) = sequences_.at(copy.from_sequence);
  copy_ring(copy);
  for (const auto& [from, to] : copy.pages) {
    copy_piece(pages_, from, to, programs_[0].kv_page_positions);
    ++num_page_copies;
  }
  return {};
}

// No more than is wanted: the rest of the ring holds nothing.
void FakeExecutor::copy_ring(const program::CacheCopy& copy) {
  const auto ring_of = [this](uint32_t sequence) {
    return std::span(rings_).subspan(size_t{sequence} * kRingPositions, kRingPositions);
  };
  const auto from = ring_of(copy.from_sequence), to = ring_of(copy.to_sequence);
  std::ranges::fill(to, -1);
  const uint32_t num_wanted = kRingPositions - std::min(copy.ring_skipped, kRingPositions);
  for (uint32_t back = 1; back <= num_wanted && back <= copy.ring_end; ++back) {
    const uint32_t row = (copy.ring_end - back) % kRingPositions;
    to[row] = from[row];
  }
}

Status FakeExecutor::read_buffer(uint32_t index, program::BufferId id, std::span<float> out) {
  EXPECT_EQ(out.size(), size_t{programs_[index].width} * programs_[index].hidden_size);
  std::fill(out.begin(), out.end(), residual(id, steps.size()));
  return {};
}

// What program/step.h promises to an executor.
void FakeExecutor::check_columns(uint32_t index, const program::StepInput& input) {
  ASSERT_LT(index, programs_.size());
  ASSERT_FALSE(input.columns.empty());
  ASSERT_LE(input.columns.size(), programs_[index].width);
  std::set<uint32_t> ended;
  bool has_logits = false;  // one of the sequence's columns so far
  for (size_t i = 0; i < input.columns.size(); ++i) {
    const program::Column& column = input.columns[i];
    const bool is_first = i == 0 || input.columns[i - 1].sequence != column.sequence;
    ASSERT_FALSE(column.is_drafted && (is_first || !programs_[index].is_drafting()));
    ASSERT_LT(column.sequence, limits_.num_sequences);
    ASSERT_LT(column.sequence, input.page_tables.size());
    ASSERT_FALSE(ended.contains(column.sequence)) << "a sequence's columns are not adjacent";
    const bool is_last =
        i + 1 == input.columns.size() || input.columns[i + 1].sequence != column.sequence;
    has_logits = column.wants_logits || (!is_first && has_logits);
    if (is_last && !has_logits) {
      ASSERT_GE(column.next_tokens.size(), programs_[index].num_mtp_heads());
    }
    if (!is_last) {
      ASSERT_EQ(input.columns[i + 1].position, column.position + 1);
      continue;
    }
    ended.insert(column.sequence);
    const auto pages = input.page_tables[column.sequence];
    ASSERT_GE(pages.size() * programs_[0].kv_page_positions,
              programs_[0].kv_page_positions == 0 ? 0 : column.position + 1);
    for (const uint32_t page : pages) ASSERT_LT(page, limits_.num_kv_pages);
  }
}

void FakeExecutor::write(const program::Column& column, std::span<const uint32_t> pages) {
  auto& tokens = sequences_[column.sequence];
  ASSERT_LE(column.position, tokens.size()) << "of sequence " << column.sequence;
  tokens.resize(column.position);  // what lies behind was a wrong draft
  tokens.push_back(column.token_id);
  rings_[column.sequence * kRingPositions + column.position % kRingPositions] = column.token_id;
  const uint32_t page_positions = programs_[0].kv_page_positions;
  if (page_positions == 0) return;
  const size_t page = pages[column.position / page_positions];
  pages_[page * page_positions + column.position % page_positions] = column.token_id;
}

void FakeExecutor::check_caches(const program::Column& column, std::span<const uint32_t> pages) {
  const auto& tokens = sequences_[column.sequence];
  const uint32_t page_positions = programs_[0].kv_page_positions;
  for (uint32_t position = 0; position <= column.position; ++position) {
    if (page_positions != 0) {
      const size_t page = pages[position / page_positions];
      ASSERT_EQ(pages_[page * page_positions + position % page_positions], tokens[position])
          << "position " << position << " of sequence " << column.sequence;
    }
    if (column.position - position >= kWindow) continue;
    ASSERT_EQ(rings_[column.sequence * kRingPositions + position % kRingPositions],
              tokens[position]);
  }
}

}  // namespace ultraspeed::engine
