#include "apps/compare_models.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace ultraspeed::apps {
namespace {

Status check_inputs(const LoadedModel& model, const LoadedModel& reference,
                    std::span<const int32_t> tokens) {
  const uint32_t vocab_size = model.config().vocab_size;
  if (vocab_size != reference.config().vocab_size) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} has {} tokens and {} has {}; expected models of one vocabulary",
                      model.directory(), vocab_size, reference.directory(),
                      reference.config().vocab_size);
  }
  if (tokens.size() < 3) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} token(s); expected at least 3, as the first is not scored",
                      tokens.size());
  }
  for (const int32_t token : tokens) {
    if (token >= 0 && static_cast<uint32_t>(token) < vocab_size) continue;
    return make_error(ErrorCode::kInvalidArgument, "token id {}: expected 0 to {}", token,
                      vocab_size - 1);
  }
  return {};
}

class Comparing {
 public:
  Comparing(ModeModel model, ModeModel reference, std::span<const int32_t> tokens)
      : model_(std::move(model)), reference_(std::move(reference)), tokens_(tokens) {}

  size_t num_scored() const { return exact_nll_.size(); }

  // Reads [begin, end) from an empty cache and scores those of its tokens that are not yet.
  Status read_window(size_t begin, size_t end, const std::function<void(size_t)>& progress) {
    const size_t width = std::min(model_.width(), reference_.width());
    for (size_t first = begin; first + 1 < end; first += width) {
      const size_t count = std::min(width, end - 1 - first);
      US_TRY(read(tokens_.subspan(first, count), static_cast<uint32_t>(first - begin)));
      const size_t vocab_size = model_.vocab_size();
      for (size_t i = 0; i < count; ++i) {
        if (first + i < num_scored()) continue;  // by the window before
        const int32_t token = tokens_[first + i + 1];
        const Distribution exact(exact_logits_.subspan(i * vocab_size, vocab_size));
        exact_nll_.push_back(exact.nll(token));
        differences_.push_back(exact.compare(logits_.subspan(i * vocab_size, vocab_size), token));
      }
      progress(num_scored());
    }
    return {};
  }

  Comparison finish() const {
    Comparison comparison;
    comparison.statistics = statistics_of(differences_, exact_nll_);
    comparison.reference_nll = comparison.statistics.nll_mean - comparison.statistics.nll_change;
    return comparison;
  }

 private:
  Status read(std::span<const int32_t> tokens, uint32_t position) {
    Result<std::span<const float>> exact;
    std::thread other([&] { exact = reference_.logits(tokens, position); });
    const auto logits = model_.logits(tokens, position);
    other.join();
    US_ASSIGN(exact_logits_, exact);
    US_ASSIGN(logits_, logits);
    return {};
  }

  ModeModel model_, reference_;
  std::span<const int32_t> tokens_;
  std::span<const float> logits_, exact_logits_;  // of the last step
  std::vector<double> exact_nll_;                 // [scored tokens]
  std::vector<Distribution::Difference> differences_;
};

}  // namespace

Result<Comparison> compare_models(const LoadedModel& model, const LoadedModel& reference,
                                  const Mode& mode, std::span<const int32_t> tokens,
                                  const ScoreWindows& windows,
                                  const std::function<void(size_t)>& progress) {
  US_TRY(check_inputs(model, reference, tokens));
  US_ASSIGN(auto changed, ModeModel::open(model, mode, windows.window));
  US_ASSIGN(auto exact, ModeModel::open(reference, mode, windows.window));
  Comparing comparing(std::move(changed), std::move(exact), tokens);
  for (size_t begin = 0; comparing.num_scored() + 1 < tokens.size(); begin += windows.stride) {
    const size_t end = std::min(begin + windows.window, tokens.size());
    US_TRY(comparing.read_window(begin, end, progress));
  }
  return comparing.finish();
}

}  // namespace ultraspeed::apps
