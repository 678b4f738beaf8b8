#include "server/candidate_choice.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace ultraspeed::server {

std::vector<size_t> judged_candidates(const std::vector<CandidateScore>& scores) {
  const bool are_all_late = std::ranges::all_of(scores, &CandidateScore::is_late);
  std::vector<size_t> judged;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (are_all_late || !scores[i].is_late) judged.push_back(i);
  }
  return judged;
}

std::vector<size_t> choose_candidates(const ChoiceOptions& choices,
                                      const std::vector<CandidateScore>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (choices.num_choices == scores.size()) return order;
  std::map<std::string, size_t> votes;
  if (choices.selection == Selection::kMajority) {
    for (const CandidateScore& score : scores) votes[score.content] += score.is_late ? 0 : 1;
  }
  const auto rank = [&](size_t index) {
    const CandidateScore& score = scores[index];
    const size_t num_votes = votes.empty() ? 0 : votes.at(score.content);
    return std::make_tuple(!score.is_late, num_votes, score.mean_logprob);
  };
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return rank(a) > rank(b); });
  order.resize(choices.num_choices);
  return order;
}

bool is_decided(const ChoiceOptions& choices, size_t num_candidates,
                const std::function<std::optional<std::string>(size_t)>& content_of) {
  if (choices.selection != Selection::kMajority || choices.num_choices != 1) return false;
  std::map<std::string, size_t> votes;
  size_t num_open = 0;
  for (size_t i = 0; i < num_candidates; ++i) {
    if (const auto content = content_of(i)) {
      ++votes[*content];
    } else {
      ++num_open;
    }
  }
  size_t first = 0, second = 0;
  for (const auto& [content, count] : votes) {
    second = std::max(second, std::min(first, count));
    first = std::max(first, count);
  }
  return first > second + num_open;
}

}  // namespace ultraspeed::server
