// Who wants to know when the kernel's socket has accepted what was queued so far. Internal to net/.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

namespace ultraspeed::net {

class SentCallbacks {
 public:
  void count_queued(uint64_t size) { queued_ += size; }  // in bytes, or in messages

  void count_sent(uint64_t size) {
    sent_ += size;
    while (!waiting_.empty() && waiting_.front().first <= sent_) {
      const auto callback = std::move(waiting_.front().second);
      waiting_.pop_front();
      callback();
    }
  }

  // At once, if nothing waits.
  void when_sent(std::function<void()> callback) {
    if (sent_ == queued_) return callback();
    waiting_.emplace_back(queued_, std::move(callback));
  }

  // The connection is lost.
  void drop() { waiting_.clear(); }

 private:
  uint64_t queued_ = 0, sent_ = 0;
  std::deque<std::pair<uint64_t, std::function<void()>>> waiting_;
};

}  // namespace ultraspeed::net
