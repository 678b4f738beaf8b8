#include "cuda/step_image.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <variant>

#include "base/check.h"

namespace ultraspeed::cuda {
namespace {

size_t align(size_t offset) {
  constexpr size_t kAlignment = 16;
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

// Gives out the parts of an image one behind the other.
class Parts {
 public:
  template <class T>
  size_t add(size_t count) {
    const size_t at = end_;
    end_ = align(end_ + count * sizeof(T));
    return at;
  }
  size_t end() const { return end_; }

 private:
  size_t end_ = 0;
};

// Fills one part element by element.
template <class T>
class Filler {
 public:
  Filler(std::byte* image, size_t offset) : first_(reinterpret_cast<T*>(image + offset)) {}

  void push(const T& value) { first_[count_++] = value; }
  void append(std::span<const T> values) {
    std::ranges::copy(values, first_ + count_);
    count_ += static_cast<uint32_t>(values.size());
  }
  uint32_t count() const { return count_; }

 private:
  T* first_;
  uint32_t count_ = 0;
};

tl::unexpected<Error> sample_error(const ColumnResult& result, uint32_t position) {
  const auto bad_logit = [&](std::string_view what) {
    return make_error(ErrorCode::kInvalidData,
                      "sampling after position {}: the {} of token {} is {}, expected a finite "
                      "number; a weight of the checkpoint or an operation before is at fault",
                      position, what, result.error_token, result.error_value);
  };
  switch (result.error) {
    case SampleError::kLogit:
      return bad_logit("logit");
    case SampleError::kNoLogit:
      return bad_logit("largest logit");
    case SampleError::kAdjustedLogit:
      return bad_logit("adjusted logit");
    case SampleError::kNoAdjustedLogit:
      return bad_logit("largest adjusted logit");
    case SampleError::kDraftLogit:
      return bad_logit("drafter's logit");
    default:
      return make_error(ErrorCode::kInvalidArgument,
                        "sampling after position {}: the constraint allows no token", position);
  }
}

// Whether column t is the first of its sequence that wants logits, and MTP heads draw after any.
bool has_drawn_logits(std::span<const program::Column> columns, size_t t) {
  if (!columns[t].wants_logits) return false;
  const auto is_of_sequence = [&](size_t i) { return columns[i].sequence == columns[t].sequence; };
  for (size_t i = t; i > 0 && is_of_sequence(i - 1); --i) {
    if (columns[i - 1].wants_logits) return false;
  }
  bool has_drawn = false;
  for (size_t i = t; i < columns.size() && is_of_sequence(i); ++i) {
    has_drawn |= columns[i].wants_logits && columns[i].sampling.draws();
  }
  return has_drawn;
}

// Column t but for what it has in other parts of the image.
StepColumn step_column(std::span<const program::Column> columns, uint32_t t,
                       uint32_t first_column) {
  const program::Column& from = columns[t];
  const program::ColumnSampling& sampling = from.sampling;
  uint32_t end_column = t + 1;
  while (end_column < columns.size() && columns[end_column].sequence == from.sequence) {
    ++end_column;
  }
  return {.token_id = from.token_id,
          .position = from.position,
          .sequence = from.sequence,
          .first_column = first_column,
          .end_column = end_column,
          .is_drafted = from.is_drafted,
          .wants_logits = from.wants_logits,
          .draws_draft = sampling.draws_draft,
          .temperature = sampling.temperature,
          .top_k = sampling.top_k,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p,
          .seed = sampling.seed,
          .proposed_token_id = sampling.proposed_token_id,
          .forced_token_id = sampling.forced_token_id,
          .num_logprobs = sampling.num_logprobs,
          .num_adjustments = static_cast<uint32_t>(sampling.adjustments.size())};
}

}  // namespace

Result<StepImage> StepImage::make() {
  StepImage image;
  US_ASSIGN(image.view_, DeviceMemory::allocate(sizeof(StepView)));
  return image;
}

Status StepImage::reserve(size_t size_bytes) {
  if (size_bytes <= device_.size_bytes()) return {};
  constexpr size_t kLeast = size_t{1} << 20;  // most steps need no more
  const size_t room = std::max(kLeast, size_bytes + size_bytes / 2);
  US_ASSIGN(DeviceMemory device, DeviceMemory::allocate(room));
  US_ASSIGN(host_, PinnedMemory::allocate(room + sizeof(StepView)));
  device_ = std::move(device);
  return {};
}

bool StepImage::lay_out(const program::Program& program, const program::StepInput& input) {
  heads_ = {};
  for (const program::Stage& stage : program.stages) {
    const auto* propose = std::get_if<program::ProposeOperands>(&stage.operands);
    if (propose == nullptr || propose->ends_draft()) continue;
    heads_ = {propose->head + 1, propose->vocab_size};
  }
  size_t num_pages = 0, num_adjustments = 0, num_words = 0, num_next = 0, num_logprobs = 0;
  size_t num_proposed = 0, num_drawn = 0;
  for (const auto& pages : input.page_tables) num_pages += pages.size();
  for (size_t t = 0; t < input.columns.size(); ++t) {
    const program::Column& column = input.columns[t];
    num_adjustments += column.sampling.adjustments.size();
    num_words += column.sampling.allowed.size();
    num_next += std::min<size_t>(column.next_tokens.size(), heads_.count);
    num_proposed += column.sampling.proposed_logits.size();
    num_logprobs += column.sampling.num_logprobs;
    if (has_drawn_logits(input.columns, t)) num_drawn += heads_.num_logits();
  }
  const size_t count = input.columns.size();
  Parts parts;
  layout_.columns = parts.add<StepColumn>(count);
  layout_.pages = parts.add<uint32_t>(num_pages);
  layout_.adjustments = parts.add<StepAdjustment>(num_adjustments);
  layout_.mask_words = parts.add<uint64_t>(num_words);
  layout_.next_tokens = parts.add<int32_t>(num_next);
  layout_.proposed_logits = parts.add<float>(num_proposed);
  layout_.results = parts.add<ColumnResult>(count);
  layout_.logprobs = parts.add<Logprob>(num_logprobs);
  layout_.drawn_logits = parts.add<float>(num_drawn);
  layout_.end = parts.end();
  return layout_.end > device_.size_bytes();
}

Result<StepTransfer> StepImage::prepare(const program::StepInput& input) {
  US_TRY(reserve(layout_.end));
  fill(input);
  std::byte* device = device_.data();
  auto* view = reinterpret_cast<StepView*>(host_.data() + device_.size_bytes());
  *view = {static_cast<uint32_t>(input.columns.size()),
           reinterpret_cast<const StepColumn*>(device + layout_.columns),
           reinterpret_cast<const uint32_t*>(device + layout_.pages),
           reinterpret_cast<const StepAdjustment*>(device + layout_.adjustments),
           reinterpret_cast<const uint64_t*>(device + layout_.mask_words),
           reinterpret_cast<const int32_t*>(device + layout_.next_tokens),
           reinterpret_cast<const float*>(device + layout_.proposed_logits),
           reinterpret_cast<ColumnResult*>(device + layout_.results),
           reinterpret_cast<Logprob*>(device + layout_.logprobs),
           reinterpret_cast<float*>(device + layout_.drawn_logits)};
  return StepTransfer{.host = host_.data(),
                      .device = device,
                      .host_view = view,
                      .device_view = view_.as<StepView>(),
                      .upload_end = layout_.drawn_logits,
                      .results_begin = layout_.results,
                      .end = layout_.end};
}

Status StepImage::upload(const program::Program& program, const program::StepInput& input,
                         cudaStream_t stream) {
  lay_out(program, input);
  US_ASSIGN(const StepTransfer step, prepare(input));
  US_TRY(cuda_status(cudaMemcpyAsync(step.device_view, step.host_view, sizeof(StepView),
                                     cudaMemcpyHostToDevice, stream),
                     "uploading a step"));
  return cuda_status(
      cudaMemcpyAsync(step.device, step.host, step.upload_end, cudaMemcpyHostToDevice, stream),
      "uploading a step");
}

void StepImage::fill(const program::StepInput& input) {
  std::byte* image = host_.data();
  Filler<uint32_t> pages(image, layout_.pages);
  std::vector<uint32_t> first_page;
  for (const auto& table : input.page_tables) {
    first_page.push_back(pages.count());
    for (const uint32_t page : table) pages.push(page);
  }
  Filler<StepColumn> columns(image, layout_.columns);
  Filler<StepAdjustment> adjustments(image, layout_.adjustments);
  Filler<uint64_t> words(image, layout_.mask_words);
  Filler<int32_t> next_tokens(image, layout_.next_tokens);
  Filler<float> proposed_logits(image, layout_.proposed_logits);
  Filler<ColumnResult> results(image, layout_.results);
  Filler<Logprob> logprobs(image, layout_.logprobs);
  size_t num_drawn = 0;
  uint32_t first_column = 0;
  for (uint32_t t = 0; t < input.columns.size(); ++t) {
    const program::Column& from = input.columns[t];
    const program::ColumnSampling& sampling = from.sampling;
    if (from.sequence != input.columns[first_column].sequence) first_column = t;
    StepColumn column = step_column(input.columns, t, first_column);
    column.first_page = first_page[from.sequence];
    column.first_logprob = logprobs.count();
    column.first_adjustment = adjustments.count();
    if (!sampling.allowed.empty()) column.first_mask_word = words.count();
    column.first_next_token = next_tokens.count();
    if (!sampling.proposed_logits.empty()) column.first_proposed_logit = proposed_logits.count();
    if (has_drawn_logits(input.columns, t)) {
      column.first_drawn_logit = static_cast<uint32_t>(num_drawn);
      num_drawn += heads_.num_logits();
    }
    columns.push(column);
    for (uint32_t i = 0; i < sampling.num_logprobs; ++i) logprobs.push({.token_id = -1});
    for (const program::LogitAdjustment& adjustment : sampling.adjustments) {
      adjustments.push({adjustment.token_id, adjustment.repetition, adjustment.bias});
    }
    for (const uint64_t word : sampling.allowed) words.push(word);
    const size_t num_next = std::min<size_t>(from.next_tokens.size(), heads_.count);
    for (const int32_t token : from.next_tokens.first(num_next)) next_tokens.push(token);
    proposed_logits.append(sampling.proposed_logits);
    results.push({});
  }
}

Status StepImage::download(cudaStream_t stream) {
  return cuda_status(
      cudaMemcpyAsync(host_.data() + layout_.results, device_.data() + layout_.results,
                      layout_.end - layout_.results, cudaMemcpyDeviceToHost, stream),
      "downloading the results of a step");
}

Status StepImage::read(const program::StepInput& input, program::StepOutput* output) const {
  const auto* results = reinterpret_cast<const ColumnResult*>(host_.data() + layout_.results);
  const auto* logprobs = reinterpret_cast<const Logprob*>(host_.data() + layout_.logprobs);
  const auto* drawn = reinterpret_cast<const float*>(host_.data() + layout_.drawn_logits);
  output->columns.assign(input.columns.size(), {});
  for (size_t t = 0; t < input.columns.size(); ++t) {
    const ColumnResult& result = results[t];
    const program::Column& column = input.columns[t];
    const Logprob* first = std::exchange(logprobs, logprobs + column.sampling.num_logprobs);
    if (result.error != SampleError::kNone) return sample_error(result, column.position);
    program::ColumnOutput& to = output->columns[t];
    to.token_id = result.token_id;
    to.logprob = result.logprob;
    to.logit = result.logit;
    to.accepted = result.accepted;
    to.drafted_id = result.drafted_id;
    to.proposed_ids.assign(result.proposed_ids, result.proposed_ids + result.num_proposed);
    if (has_drawn_logits(input.columns, t)) {
      const bool draws = input.columns[t + result.accepted].sampling.draws();
      for (uint32_t head = 0; head < heads_.count; ++head, drawn += heads_.vocab_size) {
        if (draws) to.proposed_logits.emplace_back(drawn, drawn + heads_.vocab_size);
      }
    }
    if (!column.wants_logits) continue;
    for (const Logprob* one = first; one != logprobs && one->token_id >= 0; ++one) {
      to.top_logprobs.emplace_back(one->token_id, one->logprob);
    }
  }
  return {};
}

}  // namespace ultraspeed::cuda
