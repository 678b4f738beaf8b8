// Limits how often something may happen to a subject (an address, a name) in a span of time, such
// as failed logins. Bounded: where more subjects come than it remembers, the one whose last event
// is oldest is forgotten, so somebody with very many addresses gets around this limit and needs
// another one that counts them all. Thread-safe; forgets everything with the process.
#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

#include "access/clock.h"

namespace ultraspeed::access {

// Whose events those from a client's address are. Who has one IPv6 address has its whole /64, and
// an IPv4 address is the same in IPv6's form (::ffff:1.2.3.4). What is no numeric address, such as
// "unix", stays as it is.
std::string throttle_subject(const std::string& address);

class Throttle {
 public:
  struct Limit {
    uint32_t max_events = 0;
    std::chrono::seconds span{0};
  };

  explicit Throttle(Limit limit, size_t max_subjects = 4096)
      : limit_(limit), max_subjects_(max_subjects) {}

  // How long until one more event is allowed; 0: now.
  std::chrono::seconds wait(const std::string& subject, UtcTime now);
  // It happened, whether or not it was allowed.
  void record(const std::string& subject, UtcTime now);
  // What record() was told of that time is not to count.
  void take_back(const std::string& subject, UtcTime at);
  void forget(const std::string& subject);

 private:
  void drop_old(std::deque<UtcTime>& events, UtcTime now) const;
  void make_room();

  const Limit limit_;
  const size_t max_subjects_;
  std::mutex mutex_;
  // At most max_events a subject, in the order in which they came.
  std::unordered_map<std::string, std::deque<UtcTime>> events_;
};

}  // namespace ultraspeed::access
