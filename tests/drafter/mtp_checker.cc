#include "drafter/mtp_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::test {

MtpChecker::MtpChecker(const MtpCheckerOptions& options, const GeneratorOptions& model,
                       const DenseMtp& dense, Counts* counts)
    : options_(options),
      model_(model),
      dense_(dense),
      counts_(counts),
      inner_(make_stage_executor(
          [this](const std::string& stage, StageValues* values) { after_stage(stage, values); })),
      logits_(options.num_heads) {}

Status MtpChecker::run(uint32_t index, const program::StepInput& input,
                       program::StepOutput* output) {
  columns_.assign(input.columns.begin(), input.columns.end());
  if (options_.forces) {
    for (const Block& block : blocks()) force(block);
  }
  US_TRY(inner_->run(index, {columns_, input.page_tables}, output));
  for (const Block& block : blocks()) check(block, *output);
  return {};
}

Status MtpChecker::copy_cache(const program::CacheCopy& copy) {
  history_[copy.to_sequence] = history_[copy.from_sequence];
  return inner_->copy_cache(copy);
}

void MtpChecker::after_stage(const std::string& stage, StageValues* values) {
  const auto copy = [&](const std::string& buffer) {
    const std::span<float> all = values->values(buffer);
    return std::vector<float>(all.begin(), all.end());
  };
  const std::string last = fmt::format("layers.{}.ffn_residual", model_.sliding_layers.size() - 1);
  if (stage == last) residuals_ = copy(last);
  for (uint32_t head = 0; head < options_.num_heads; ++head) {
    const std::string part = fmt::format("mtp.layers.{}.", head);
    if (stage == part + "lm_head") logits_[head] = copy(part + "logits");
  }
}

std::vector<MtpChecker::Block> MtpChecker::blocks() const {
  std::vector<Block> result;
  for (size_t begin = 0, end = 0; begin < columns_.size(); begin = end) {
    end = begin + 1;
    while (end < columns_.size() && columns_[end].sequence == columns_[begin].sequence) ++end;
    Block block{begin, end, begin, 0};
    while (block.first_logits < end && !columns_[block.first_logits].wants_logits) {
      ++block.first_logits;
    }
    result.push_back(block);
  }
  return result;
}

// Makes the target choose the first drafts of a block, and then another token.
void MtpChecker::force(const Block& block) {
  if (block.first_logits != block.begin || block.end - block.begin < 2) return;
  const size_t num_accepted = counts_->num_blocks % (block.end - block.begin);
  for (size_t i = block.begin; i + 1 < block.end && i <= block.begin + num_accepted; ++i) {
    const int32_t draft = columns_[i + 1].token_id;
    columns_[i].sampling.forced_token_id =
        i < block.begin + num_accepted ? draft
                                       : (draft + 1) % static_cast<int32_t>(model_.vocab_size);
  }
}

void MtpChecker::check(Block block, const program::StepOutput& output) {
  const bool has_logits = block.first_logits < block.end;
  block.accepted = block.end - 1;
  std::vector<int32_t> text;  // from the block's first column on
  if (has_logits) block.accepted = block.first_logits + output.columns[block.first_logits].accepted;
  for (size_t i = block.begin; i <= block.accepted; ++i) text.push_back(columns_[i].token_id);
  if (has_logits) {
    text.push_back(output.columns[block.accepted].token_id);
  } else {
    const auto next = columns_[block.accepted].next_tokens.first(options_.num_heads);
    text.insert(text.end(), next.begin(), next.end());
  }
  if (has_logits && block.end - block.begin > 1 && block.first_logits == block.begin) {
    const size_t num_accepted = block.accepted - block.begin;
    ++counts_->num_blocks;
    counts_->num_accepted += static_cast<uint32_t>(num_accepted);
    counts_->num_partial += num_accepted > 0 && block.accepted + 1 < block.end ? 1 : 0;
  }
  std::vector<Rows>& history = history_of(block);
  history.resize(options_.num_heads);
  for (uint32_t head = 0; head < options_.num_heads; ++head) {
    Rows& rows = history[head];
    US_CHECK(rows.size() >= columns_[block.begin].position);
    rows.resize(columns_[block.begin].position);
    for (size_t i = block.begin; i <= block.accepted; ++i) {
      DenseMtp::Row& row = rows.emplace_back();
      row.token = text[i - block.begin + 1 + head - std::min(options_.token_shift, 1 + head)];
      const auto first = residuals_.begin() + static_cast<ptrdiff_t>(i * model_.hidden_size);
      row.hidden.assign(first, first + ptrdiff_t{model_.hidden_size});
      if (options_.damage) options_.damage(&row);
    }
    if (!has_logits) continue;
    const DenseMtp::Vector logits = dense_.logits(head, rows);
    compare(head, block, output, logits);
    text.push_back(proposal_of(head, block, logits));
  }
}

// The likeliest token, or the one that is drawn with the parameters of the accepted column.
int32_t MtpChecker::proposal_of(uint32_t head, const Block& block,
                                const DenseMtp::Vector& logits) const {
  const program::Column& column = columns_[block.accepted];
  if (!column.sampling.draws()) {
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }
  const std::vector<float> values(logits.begin(), logits.end());
  const uint32_t stream = program::draft_stream(column.position, head);
  return static_cast<int32_t>(cpu::draw_draft(values, stream, column.sampling));
}

void MtpChecker::compare(uint32_t head, const Block& block, const program::StepOutput& output,
                         const DenseMtp::Vector& logits) {
  const auto& proposed = output.columns[block.first_logits].proposed_ids;
  US_CHECK(proposed.size() == options_.num_heads, "{} proposals", proposed.size());
  ++counts_->num_proposals;
  counts_->num_different += proposed[head] == proposal_of(head, block, logits) ? 0 : 1;
  double largest = 0, scale = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const auto value = static_cast<double>(logits_[head][block.accepted * logits.size() + id]);
    largest = std::isnan(value) ? INFINITY : std::max(largest, std::abs(value - logits[id]));
    scale = std::max(scale, std::abs(logits[id]));
  }
  counts_->largest_error = std::max(counts_->largest_error, largest / scale);
}

}  // namespace ultraspeed::test
