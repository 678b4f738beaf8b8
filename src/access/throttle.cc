#include "access/throttle.h"

#include <algorithm>

namespace ultraspeed::access {

std::chrono::seconds Throttle::wait(const std::string& subject, UtcTime now) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find(subject);
  if (found == events_.end()) return {};
  drop_old(found->second, now);
  if (found->second.size() < limit_.max_events) return {};
  const auto left = found->second.front() + limit_.span - now;
  return std::max(std::chrono::ceil<std::chrono::seconds>(left), std::chrono::seconds(1));
}

void Throttle::record(const std::string& subject, UtcTime now) {
  const std::lock_guard lock(mutex_);
  if (!events_.contains(subject) && events_.size() >= max_subjects_) make_room();
  std::deque<UtcTime>& events = events_[subject];
  drop_old(events, now);
  events.push_back(now);
  if (events.size() > limit_.max_events) events.pop_front();
}

void Throttle::take_back(const std::string& subject, UtcTime at) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find(subject);
  if (found == events_.end()) return;
  const auto event = std::ranges::find(found->second, at);
  if (event != found->second.end()) found->second.erase(event);
  if (found->second.empty()) events_.erase(found);
}

void Throttle::forget(const std::string& subject) {
  const std::lock_guard lock(mutex_);
  events_.erase(subject);
}

void Throttle::drop_old(std::deque<UtcTime>& events, UtcTime now) const {
  while (!events.empty() && events.front() + limit_.span <= now) events.pop_front();
}

void Throttle::make_room() {
  const auto last = [](const auto& subject) {
    return subject.second.empty() ? UtcTime::min() : subject.second.back();
  };
  events_.erase(std::ranges::min_element(events_, {}, last));
}

}  // namespace ultraspeed::access
