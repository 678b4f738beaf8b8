// The product of the texts' automaton and one that looks for the word. As the word's first byte
// comes once in it, a mismatch can restart at that byte alone.
#include "grammar/text_end.h"

#include <compare>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace ultraspeed::grammar {
namespace {

constexpr uint64_t kStepsOfPlace = 150;

class TextEnder {
 public:
  TextEnder(const TextEnd& end, StateId start, Budget* budget, std::vector<DraftState>* states)
      : end_(end), start_(start), budget_(*budget), states_(*states) {}

  Status run() {
    US_TRY(intern({start_, 0, false, !end_.not_first.empty()}));
    for (size_t i = 0; i < places_.size(); ++i) {
      const Place place = places_[i];
      if (place.matched == end_.word.size()) {
        made_[i].is_final = true;
        continue;
      }
      US_TRY(add_edges(i, place));
      if (place.text != kNoState) US_TRY(add_calls(i, states_[place.text]));
    }
    states_.resize(start_);
    std::move(made_.begin(), made_.end(), std::back_inserter(states_));
    return {};
  }

 private:
  struct Place {
    StateId text;      // of the texts' automaton; kNoState: no text goes on so
    uint32_t matched;  // bytes of the word; all of it: the end
    bool can_end;      // what came before them is a whole text
    bool is_blank;     // nothing but white space has come, and what comes first matters
    auto operator<=>(const Place&) const = default;
  };

  Result<StateId> intern(const Place& place) {
    const auto [entry, is_new] =
        ids_.try_emplace(place, start_ + static_cast<StateId>(places_.size()));
    if (!is_new) return entry->second;
    US_TRY(budget_.spend(kStepsOfPlace));
    if (entry->second >= kMaxStates) {
      return make_error(ErrorCode::kOutOfMemory,
                        "the grammar needs an automaton of more than {} states", kMaxStates);
    }
    places_.push_back(place);
    made_.emplace_back();
    return entry->second;
  }

  // Neighbouring bytes mostly lead to the same place.
  Status add_edges(size_t index, const Place& from) {
    std::optional<Place> last;
    const Grammar::Edge* edge = nullptr;
    const Grammar::Edge* end = nullptr;
    if (from.text != kNoState) {
      edge = states_[from.text].edges.data();
      end = edge + states_[from.text].edges.size();
    }
    for (int byte = 0; byte < 256; ++byte) {
      while (edge != end && edge->last < byte) ++edge;
      const bool has_next = edge != end && edge->first <= byte;
      const std::optional<Place> place =
          next(from, static_cast<char>(byte), has_next ? edge->target : kNoState);
      if (place && place == last) {
        made_[index].edges.back().last = static_cast<uint8_t>(byte);
      } else if (place) {
        US_ASSIGN(const StateId target, intern(*place));
        const auto single = static_cast<uint8_t>(byte);
        made_[index].edges.push_back({single, single, target});
      }
      last = place;
    }
    return {};
  }

  // REQUIRES: the byte leads from `from`'s text state to `text`.
  std::optional<Place> next(const Place& from, char byte, StateId text) const {
    const bool is_blank = from.is_blank && is_space(byte);
    if (from.is_blank && !is_blank && end_.not_first.find(byte) != std::string::npos)
      text = kNoState;
    Place place{text, 0, false, is_blank};
    if (byte == end_.word[from.matched]) {
      place.matched = from.matched + 1;
      place.can_end = from.matched == 0 ? is_whole(from.text) : from.can_end;
    } else if (byte == end_.word[0]) {
      place.matched = 1;
      place.can_end = is_whole(from.text);
    }
    if (place.matched == end_.word.size()) {
      if (!place.can_end) return std::nullopt;
      return Place{kNoState, place.matched, true, false};
    }
    if (place.text == kNoState && !place.can_end) return std::nullopt;
    return place;
  }

  Status add_calls(size_t index, const DraftState& from) {
    for (const DraftState::Call& call : from.calls) {
      US_ASSIGN(const StateId target, intern({call.return_state, 0, false, false}));
      made_[index].calls.push_back({call.rule, target});
    }
    return {};
  }

  bool is_whole(StateId text) const { return text != kNoState && states_[text].is_final; }
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

  const TextEnd& end_;
  const StateId start_;
  Budget& budget_;
  std::vector<DraftState>& states_;  // the texts' automaton until the end of run()
  std::map<Place, StateId> ids_;
  std::vector<Place> places_;
  std::vector<DraftState> made_;  // [places]
};

}  // namespace

Status add_end(const TextEnd& end, StateId start, Budget* budget, std::vector<DraftState>* states) {
  return TextEnder(end, start, budget, states).run();
}

}  // namespace ultraspeed::grammar
