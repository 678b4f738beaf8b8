// Waits for one of some tags after white space, character by character.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ultraspeed::server {

inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

class TagMatcher {
 public:
  enum class State { kOpen, kMatched, kFailed };

  // REQUIRES: no tag begins with another one or with white space; they outlive the matcher.
  explicit TagMatcher(std::span<const std::string_view> tags) : tags_(tags) {}

  State push(char c) {
    if (tag_.empty() && is_space(c)) {
      spaces_ += c;
      return State::kOpen;
    }
    tag_ += c;
    State state = State::kFailed;
    for (size_t i = 0; i < tags_.size(); ++i) {
      if (!tags_[i].starts_with(tag_)) continue;
      index_ = i;
      state = tags_[i].size() == tag_.size() ? State::kMatched : State::kOpen;
    }
    return state;
  }

  size_t index() const { return index_; }              // of the tag that matched
  std::string text() const { return spaces_ + tag_; }  // all that was pushed
  size_t size() const { return spaces_.size() + tag_.size(); }
  void clear() {
    spaces_.clear();
    tag_.clear();
  }

 private:
  std::span<const std::string_view> tags_;
  std::string spaces_;
  std::string tag_;
  size_t index_ = 0;
};

}  // namespace ultraspeed::server
