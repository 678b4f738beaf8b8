#include "access/throttle.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace ultraspeed::access {

std::string throttle_subject(const std::string& address) {
  in6_addr ipv6{};
  const std::string without_zone = address.substr(0, address.find('%'));
  if (inet_pton(AF_INET6, without_zone.c_str(), &ipv6) != 1) return address;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
    return inet_ntop(AF_INET, &ipv6.s6_addr[12], text.data(), text.size());
  }
  std::fill(std::begin(ipv6.s6_addr) + 8, std::end(ipv6.s6_addr), uint8_t{0});
  return std::string(inet_ntop(AF_INET6, &ipv6, text.data(), text.size())) + "/64";
}

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
