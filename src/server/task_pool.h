// A few threads that run functions in the order in which they came: parsing and tokenizing of
// requests, kept off the event loop and off the engine's thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ultraspeed::server {

class TaskPool {
 public:
  explicit TaskPool(uint32_t num_threads);
  ~TaskPool() { stop(); }

  // Any thread. Dropped after stop().
  void run(std::function<void()> task);
  size_t num_waiting();
  // Finishes the tasks under way, drops the rest, joins the threads.
  void stop();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ultraspeed::server
