#include "server/engine_thread.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/fake_engine.h"

namespace ultraspeed::server {
namespace {

// Stands for the event loop: runs what was posted on the test's thread.
class PostQueue {
 public:
  // What is left may post again as it goes.
  ~PostQueue() {
    while (!functions_.empty()) {
      const auto function = std::move(functions_.front());
      functions_.pop_front();
    }
  }
  Post post() {
    return [this](std::function<void()> function) {
      const std::lock_guard lock(mutex_);
      functions_.push_back(std::move(function));
      changed_.notify_all();
    };
  }
  // Runs functions until the condition holds; false after five seconds.
  bool run_until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!condition()) {
      std::function<void()> function;
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_until(lock, deadline, [this] { return !functions_.empty(); })) {
          return false;
        }
        function = std::move(functions_.front());
        functions_.pop_front();
      }
      function();
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> functions_;
};

class RecordingListener : public JobListener {
 public:
  void on_accepted(size_t position) override {
    ++num_accepted;
    queue_position = position;
  }
  void on_started(std::chrono::steady_clock::time_point) override {
    EXPECT_EQ(num_accepted, 1);
    ++num_started;
  }
  void on_step(std::span<const engine::StepEvent> events) override {
    EXPECT_EQ(num_started, 1);
    EXPECT_FALSE(is_over());
    ++num_steps;
    for (const engine::StepEvent& event : events) {
      if (event.token) ids.push_back(event.token->id);
      if (event.finished) finished = event.finished;
    }
  }
  void on_failed(const Error& failure) override {
    EXPECT_FALSE(is_over());
    error = failure;
  }
  void on_deadline() override {
    EXPECT_FALSE(is_over());
    is_late = true;
  }
  bool is_over() const { return finished || error || is_late; }

  int num_accepted = 0;
  size_t queue_position = 0;
  int num_started = 0;
  int num_steps = 0;
  std::vector<int32_t> ids;
  std::optional<engine::FinishReason> finished;
  std::optional<Error> error;
  bool is_late = false;
};

class EngineThreadTest : public testing::Test {
 protected:
  void start(uint32_t max_queue = 4) {
    thread_ = std::make_unique<EngineThread>(engine_, max_queue, queue_.post());
  }
  std::pair<JobId, std::shared_ptr<RecordingListener>> submit(size_t prompt_size = 1,
                                                              int tier = 0) {
    auto listener = std::make_shared<RecordingListener>();
    Job job;
    job.tier = tier;
    job.prompt.assign(prompt_size, 7);
    job.params.max_tokens = 50;
    job.listener = listener;
    return {thread_->submit(std::move(job)), listener};
  }

  FakeEngine engine_;
  PostQueue queue_;
  std::unique_ptr<EngineThread> thread_;
};

// Listeners belong to the event loop: also the last reference to one goes there.
TEST_F(EngineThreadTest, ListenersAreLetGoWhereTheyAreCalled) {
  struct ThreadListener final : RecordingListener {
    explicit ThreadListener(std::thread::id* id) : end(id) {}
    ~ThreadListener() override { *end = std::this_thread::get_id(); }
    std::thread::id* end;
  };
  engine_.reply.assign(1000, 9);
  engine_.max_sessions = 1;
  start();
  std::array<std::thread::id, 2> ends;
  std::array<JobId, 2> jobs;
  for (size_t i = 0; i < ends.size(); ++i) {  // one runs, one waits
    Job job;
    job.prompt = {7};
    job.params.max_tokens = 1000;
    job.listener = std::make_shared<ThreadListener>(&ends[i]);
    jobs[i] = thread_->submit(std::move(job));
  }
  for (const size_t i : {size_t{1}, size_t{0}}) {
    thread_->cancel(jobs[i]);
    ASSERT_TRUE(queue_.run_until([&] { return ends[i] != std::thread::id(); }));
    EXPECT_EQ(ends[i], std::this_thread::get_id());
  }
}

TEST_F(EngineThreadTest, RunsAJobToItsEnd) {
  engine_.reply = {10, 11, 12, 2};
  engine_.tokens_per_step = 2;
  start();
  const auto listener = submit(100).second;
  ASSERT_TRUE(queue_.run_until([&] { return listener->is_over(); }));
  EXPECT_EQ(listener->ids, engine_.reply);
  EXPECT_EQ(listener->finished, engine::FinishReason::kStop);
  EXPECT_EQ(listener->num_steps, 4);  // two of the prompt, two of the output
  EXPECT_EQ(engine_.starts()[0].prompt.size(), 100U);
  EXPECT_EQ(engine_.starts()[0].params.max_tokens, 50U);
}

TEST_F(EngineThreadTest, QueuesWhatHasNoRoomInOrder) {
  engine_.reply = {10, 2};
  engine_.max_sessions = 1;
  engine_.is_paused = true;
  start(3);
  std::vector<std::shared_ptr<RecordingListener>> listeners;
  for (size_t i = 1; i <= 4; ++i) listeners.push_back(submit(i).second);
  ASSERT_TRUE(queue_.run_until([&] { return listeners.back()->num_accepted == 1; }));
  engine_.is_paused = false;
  ASSERT_TRUE(queue_.run_until([&] { return listeners.back()->is_over(); }));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(listeners[i]->queue_position, i);  // the first one has the session
    EXPECT_EQ(listeners[i]->finished, engine::FinishReason::kStop);
    EXPECT_EQ(engine_.starts()[i].prompt.size(), i + 1);
  }
}

TEST_F(EngineThreadTest, RefusesAboveTheQueuesBound) {
  engine_.max_sessions = 1;
  engine_.is_paused = true;
  start(1);
  const auto running = submit().second;
  const auto waiting = submit().second;
  const auto refused = submit().second;
  ASSERT_TRUE(queue_.run_until([&] { return refused->is_over(); }));
  EXPECT_EQ(refused->error->code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(refused->error->message,
            "All 1 places of the server's queue are taken, this request would be number 2 in it; "
            "try again later.");
  EXPECT_EQ(refused->num_accepted, 0);
  engine_.is_paused = false;
  ASSERT_TRUE(queue_.run_until([&] { return waiting->is_over(); }));
  EXPECT_TRUE(running->finished && waiting->finished);
}

// Whoever would start last goes, even if it has waited.
TEST_F(EngineThreadTest, WhoComesBeforeOthersHasAPlaceInAFullQueue) {
  engine_.max_sessions = 1;
  engine_.is_paused = true;
  start(2);
  const auto running = submit(1, 1).second;
  const auto first = submit(1, 1).second;
  const auto last = submit(1, 2).second;
  const auto equal = submit(1, 2).second;
  ASSERT_TRUE(queue_.run_until([&] { return equal->is_over(); }));
  EXPECT_EQ(last->num_accepted, 1);
  const auto urgent = submit(1, 0).second;
  ASSERT_TRUE(queue_.run_until([&] { return last->is_over() && urgent->num_accepted == 1; }));
  EXPECT_EQ(last->error->code, ErrorCode::kOutOfMemory);
  engine_.is_paused = false;
  ASSERT_TRUE(queue_.run_until([&] { return first->is_over(); }));
  EXPECT_TRUE(running->finished && urgent->finished && first->finished);
}

TEST_F(EngineThreadTest, CancelsRunningAndWaitingJobs) {
  engine_.max_sessions = 1;
  engine_.is_endless = true;
  engine_.reply = {10};
  engine_.is_paused = true;
  start();
  const auto [running_id, running] = submit();
  const auto [waiting_id, waiting] = submit();
  const auto third = submit().second;
  ASSERT_TRUE(engine_.wait_for_starts(1));
  thread_->cancel(waiting_id);
  thread_->cancel(running_id);
  thread_->cancel(12345);
  ASSERT_TRUE(engine_.wait_for_cancels(1));
  ASSERT_TRUE(engine_.wait_for_starts(2));
  engine_.is_paused = false;
  ASSERT_TRUE(queue_.run_until([&] { return third->is_over(); }));
  EXPECT_EQ(third->ids.size(), 50U);
  EXPECT_FALSE(waiting->is_over());
  EXPECT_EQ(engine_.starts().size(), 2U);
}

TEST_F(EngineThreadTest, ReportsWhatTheEngineRefuses) {
  engine_.start_error = Error{ErrorCode::kInvalidArgument, "token id 7 is out of range"};
  start();
  const auto invalid = submit().second;
  ASSERT_TRUE(queue_.run_until([&] { return invalid->is_over(); }));
  EXPECT_EQ(invalid->error->code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(invalid->num_accepted, 0);
}

TEST_F(EngineThreadTest, AJobThatNeverFitsDoesNotWait) {
  engine_.max_sessions = 0;
  start();
  const auto listener = submit().second;
  ASSERT_TRUE(queue_.run_until([&] { return listener->is_over(); }));
  EXPECT_EQ(listener->error->code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(listener->error->message, "The request is too large: all sessions are taken");
}

TEST_F(EngineThreadTest, AFaultFailsAllJobsAndTheNextMayWork) {
  engine_.max_sessions = 2;
  engine_.is_paused = true;
  start();
  std::vector<std::shared_ptr<RecordingListener>> listeners;
  for (int i = 0; i < 3; ++i) listeners.push_back(submit().second);
  ASSERT_TRUE(queue_.run_until([&] { return listeners[2]->num_accepted == 1; }));
  engine_.fails_steps = true;
  ASSERT_TRUE(queue_.run_until([&] {
    return std::all_of(listeners.begin(), listeners.end(), [](auto& l) { return l->is_over(); });
  }));
  for (const auto& listener : listeners) EXPECT_EQ(listener->error->code, ErrorCode::kInternal);
  EXPECT_FALSE(thread_->is_healthy());
  EXPECT_EQ(engine_.num_active(), 0U);

  engine_.fails_steps = false;
  engine_.is_paused = false;
  const auto next = submit().second;
  ASSERT_TRUE(queue_.run_until([&] { return next->is_over(); }));
  EXPECT_TRUE(next->finished);
  EXPECT_TRUE(thread_->is_healthy());
}

TEST_F(EngineThreadTest, FailAllEndsEveryJob) {
  engine_.max_sessions = 1;
  engine_.is_paused = true;
  start();
  const auto running = submit().second;
  const auto waiting = submit().second;
  ASSERT_TRUE(queue_.run_until([&] { return waiting->num_accepted == 1; }));
  thread_->fail_all({ErrorCode::kCancelled, "over"});
  ASSERT_TRUE(queue_.run_until([&] { return running->is_over() && waiting->is_over(); }));
  EXPECT_EQ(running->error->message, "over");
  EXPECT_EQ(waiting->error->code, ErrorCode::kCancelled);
  EXPECT_EQ(engine_.num_active(), 0U);
}

TEST_F(EngineThreadTest, StopCancelsSilently) {
  engine_.is_paused = true;
  start();
  const auto listener = submit().second;
  ASSERT_TRUE(engine_.wait_for_starts(1));
  thread_->stop();
  EXPECT_EQ(engine_.num_active(), 0U);
  EXPECT_FALSE(listener->is_over());
}

}  // namespace
}  // namespace ultraspeed::server
