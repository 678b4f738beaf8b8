#include "server/task_pool.h"

#include <utility>

namespace ultraspeed::server {

TaskPool::TaskPool(uint32_t num_threads) {
  for (uint32_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
}

void TaskPool::run(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (is_stopping_) return;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

size_t TaskPool::num_waiting() {
  const std::lock_guard lock(mutex_);
  return tasks_.size();
}

void TaskPool::stop() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    dropped.swap(tasks_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskPool::work() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace ultraspeed::server
