#include "cpu/ops/share_sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "cpu/ops/adjusted_logits.h"
#include "program/step_check.h"

namespace ultraspeed::cpu {
namespace {

using program::LogitPeaks;
using program::LogitShare;
using program::LogitShortlist;
using program::ShortlistedToken;
using program::TokenLogit;

// As argmax() over the shares one behind the other.
template <class Member>
const LogitPeaks& largest_peak(std::span<const LogitPeaks> peaks, Member member) {
  const LogitPeaks* best = &peaks[0];
  for (const LogitPeaks& peak : peaks.subspan(1)) {
    const float most = (best->*member).value, value = (peak.*member).value;
    if (!std::isnan(most) && (std::isnan(value) || value > most)) best = &peak;
  }
  return *best;
}

// The peaks whose adjusted logit is an error, if any.
const LogitPeaks* bad_adjusted(std::span<const LogitPeaks> peaks) {
  const auto is_bad = [](const LogitPeaks& peak) {
    return !(peak.adjusted.value < std::numeric_limits<float>::infinity());
  };
  const auto found = std::find_if(peaks.begin(), peaks.end(), is_bad);
  return found == peaks.end() ? nullptr : &*found;
}

Status check_raw_peaks(std::span<const LogitPeaks> peaks, uint32_t position) {
  const TokenLogit& raw = largest_peak(peaks, &LogitPeaks::raw).raw;
  if (std::isfinite(raw.value)) return {};
  const char* what = raw.value < 0 ? "largest logit" : "logit";
  return bad_logit(what, position, raw.token_id, raw.value);
}

Status check_adjusted_peaks(std::span<const LogitPeaks> peaks, uint32_t position,
                            const program::ColumnSampling& sampling, uint32_t vocab_size) {
  if (const LogitPeaks* bad = bad_adjusted(peaks)) {
    return bad_logit("adjusted logit", position, bad->adjusted.token_id, bad->adjusted.value);
  }
  US_TRY(check_mask(sampling.allowed, position, vocab_size));
  const TokenLogit& most = largest_peak(peaks, &LogitPeaks::adjusted).adjusted;
  if (std::isfinite(most.value)) return {};
  return bad_logit("largest adjusted logit", position, most.token_id, most.value);
}

ShortlistedToken token_at(const TokenValues& share, std::span<const float> adjusted,
                          uint32_t place) {
  return {share.id_of(place), adjusted[place], share.values[place]};
}

// Of the share what has temperature, top_k and min_p in its favour.
void add_drawn(const TokenValues& share, float largest, uint32_t position,
               const program::ColumnSampling& sampling, bool has_top_k, LogitShortlist* list) {
  const AdjustedLogits adjusted(share, sampling);
  if (has_top_k) {
    std::vector<uint32_t> places = largest_ids(adjusted.values(), sampling.top_k);
    std::sort(places.begin(), places.end());
    list->num_top = static_cast<uint32_t>(places.size());
    for (uint32_t i = 0; i < list->num_top; ++i) {
      list->top[i] = token_at(share, adjusted.values(), places[i]);
    }
    return;
  }
  Candidates candidates({adjusted.values(), share.first_id}, sampling.temperature, largest);
  candidates.keep_min_p(sampling.min_p);
  if (candidates.empty()) return;
  const NoisyChoice choice = candidates.choose(sampling.seed, position);
  list->noisy = choice.noisy;
  list->winner = token_at(share, adjusted.values(), choice.place);
}

ShortlistedToken choose_from_top(std::span<const LogitShortlist> lists, uint32_t position,
                                 const program::ColumnSampling& sampling) {
  std::vector<ShortlistedToken> tokens;  // by id, as the lists and the ranks are
  for (const LogitShortlist& list : lists) {
    tokens.insert(tokens.end(), list.top.begin(), list.top.begin() + list.num_top);
  }
  std::vector<float> values;
  std::vector<uint32_t> ids;
  for (const ShortlistedToken& token : tokens) {
    values.push_back(token.value);
    ids.push_back(token.token_id);
  }
  const Candidates candidates = kept_candidates({values, 0, ids}, sampling);
  return tokens[candidates.choose(sampling.seed, position).place];
}

// The first of equals, as of all tokens one behind the other.
ShortlistedToken noisiest(std::span<const LogitShortlist> lists) {
  const LogitShortlist* best = nullptr;
  for (const LogitShortlist& list : lists) {
    if (list.winner.token_id == program::kNoId) continue;
    if (best == nullptr || list.noisy > best->noisy) best = &list;
  }
  US_CHECK(best != nullptr, "no rank has a token that may be chosen");
  return best->winner;
}

Result<ShortlistedToken> shared_choice(const LogitShares& shares, uint32_t position,
                                       const program::ColumnSampling& sampling) {
  US_TRY(program::check_sampling(sampling, position, shares.vocab_size));
  if (sampling.forced_token_id >= 0) return noisiest(shares.shortlists);
  US_TRY(check_adjusted_peaks(shares.peaks, position, sampling, shares.vocab_size));
  if (sampling.temperature == 0) {
    const LogitPeaks& peak = largest_peak(shares.peaks, &LogitPeaks::adjusted);
    return ShortlistedToken{peak.adjusted.token_id, peak.adjusted.value, peak.adjusted_raw};
  }
  return program::cuts_top_k(sampling, shares.vocab_size)
             ? choose_from_top(shares.shortlists, position, sampling)
             : noisiest(shares.shortlists);
}

// The largest of all ranks' lists, in order.
std::vector<TokenLogit> likeliest_of(std::span<const LogitShortlist> lists, uint32_t count) {
  std::vector<TokenLogit> tokens;
  for (const LogitShortlist& list : lists) {
    tokens.insert(tokens.end(), list.likely.begin(), list.likely.begin() + list.num_likely);
  }
  std::sort(tokens.begin(), tokens.end(), [](const TokenLogit& a, const TokenLogit& b) {
    return a.value != b.value ? a.value > b.value : a.token_id < b.token_id;
  });
  tokens.resize(std::min<size_t>(count, tokens.size()));
  return tokens;
}

}  // namespace

LogitPeaks peaks_of(const TokenValues& share, const program::ColumnSampling& sampling) {
  LogitPeaks peaks;
  const uint32_t best = argmax(share.values);
  peaks.raw = {share.id_of(best), share.values[best]};
  peaks.adjusted = peaks.raw;
  peaks.adjusted_raw = peaks.raw.value;
  const bool is_adjusted = !sampling.adjustments.empty() || !sampling.allowed.empty();
  if (sampling.forced_token_id >= 0 || !is_adjusted) return peaks;
  const AdjustedLogits adjusted(share, sampling);
  if (adjusted.bad_id() != program::kNoId) {
    peaks.adjusted = {adjusted.bad_id(), adjusted.bad_value()};
    return peaks;
  }
  const uint32_t place = argmax(adjusted.values());
  peaks.adjusted = {share.id_of(place), adjusted.values()[place]};
  peaks.adjusted_raw = share.values[place];
  return peaks;
}

void sum_pieces(std::span<const LogitPeaks> peaks, std::span<const float> pieces, float* sums) {
  const float most = largest_peak(peaks, &LogitPeaks::raw).raw.value;
  if (!std::isfinite(most)) return;
  for (size_t begin = 0; begin < pieces.size(); begin += kLogitPiece) {
    const auto piece = pieces.subspan(begin, std::min<size_t>(kLogitPiece, pieces.size() - begin));
    *sums++ = exp_and_sum(piece.data(), most, static_cast<uint32_t>(piece.size()), nullptr);
  }
}

LogitShortlist shortlist_of(std::span<const LogitPeaks> peaks, const TokenValues& share,
                            uint32_t position, const program::ColumnSampling& sampling,
                            uint32_t vocab_size) {
  LogitShortlist list;
  const float largest = largest_peak(peaks, &LogitPeaks::adjusted).adjusted.value;
  const bool is_bad = !std::isfinite(largest_peak(peaks, &LogitPeaks::raw).raw.value) ||
                      bad_adjusted(peaks) != nullptr || !std::isfinite(largest);
  if (is_bad) return list;
  for (const uint32_t place : largest_ids(share.values, sampling.num_logprobs)) {
    list.likely[list.num_likely++] = {share.id_of(place), share.values[place]};
  }
  if (sampling.forced_token_id >= 0) {
    const auto place = static_cast<uint32_t>(sampling.forced_token_id) - share.first_id;
    if (place < share.values.size()) list.winner = token_at(share, share.values, place);
  } else if (sampling.temperature > 0) {
    add_drawn(share, largest, position, sampling, program::cuts_top_k(sampling, vocab_size), &list);
  }
  return list;
}

Result<program::ColumnOutput> choose_from_shares(const LogitShares& shares, uint32_t position,
                                                 const program::ColumnSampling& sampling) {
  US_TRY(check_raw_peaks(shares.peaks, position));
  US_ASSIGN(const ShortlistedToken token, shared_choice(shares, position, sampling));
  double sum = 0;
  for (const float of_piece : shares.piece_sums) sum += of_piece;
  const double log_sum = largest_peak(shares.peaks, &LogitPeaks::raw).raw.value + std::log(sum);
  program::ColumnOutput output;
  output.token_id = static_cast<int32_t>(token.token_id);
  output.logprob = static_cast<float>(token.logit - log_sum);
  output.logit = token.logit;
  for (const TokenLogit& likely : likeliest_of(shares.shortlists, sampling.num_logprobs)) {
    output.top_logprobs.emplace_back(static_cast<int32_t>(likely.token_id),
                                     static_cast<float>(likely.value - log_sum));
  }
  return output;
}

}  // namespace ultraspeed::cpu
