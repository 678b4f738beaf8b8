// Which of a request's candidates are its choices.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/generation_request.h"

namespace ultraspeed::server {

struct CandidateScore {
  bool is_late = false;      // cut off by a deadline or a decision
  double mean_logprob = 0;   // of its tokens
  std::string content = {};  // without reasoning and white space around it
};

// Those that a judge is to see: all that were not cut off, or else all.
std::vector<size_t> judged_candidates(const std::vector<CandidateScore>& scores);

// The indices of choices.num_choices candidates, the best first: those that were not cut off first;
// of them the largest group of equal contents with kMajority; then by mean log-probability. As many
// as there are candidates keep their order. REQUIRES: at least num_choices scores.
std::vector<size_t> choose_candidates(const ChoiceOptions& choices,
                                      const std::vector<CandidateScore>& scores);

// Whether no other candidate can change the majority any more. content_of(i): nothing, unless the
// candidate has ended by itself.
bool is_decided(const ChoiceOptions& choices, size_t num_candidates,
                const std::function<std::optional<std::string>(size_t)>& content_of);

}  // namespace ultraspeed::server
