#include "apps/score.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::apps {

Result<std::vector<float>> score_tokens(engine::Engine& engine, std::span<const int32_t> tokens,
                                        const ScoreWindows& windows,
                                        const std::function<void(size_t)>& progress) {
  US_CHECK(windows.window >= 2 && windows.stride >= 1 && windows.stride < windows.window,
           "window {}, stride {}", windows.window, windows.stride);
  if (tokens.size() < 2) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} token(s); expected at least 2, as the first is not scored",
                      tokens.size());
  }
  std::vector<float> nll;
  nll.reserve(tokens.size() - 1);
  size_t begin = 0;
  while (nll.size() + 1 < tokens.size()) {
    const size_t end = std::min(begin + windows.window, tokens.size());
    const auto report = [&](uint32_t done) { progress(std::max(nll.size(), begin + done)); };
    US_ASSIGN(const std::vector<float> logprobs,
              engine.score(tokens.subspan(begin, end - begin), report));
    US_CHECK(logprobs.size() == end - begin - 1);
    const size_t scored_before = nll.size();
    for (size_t i = scored_before - begin; i < logprobs.size(); ++i) nll.push_back(-logprobs[i]);
    begin += windows.stride;
  }
  return nll;
}

double mean_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

}  // namespace ultraspeed::apps
