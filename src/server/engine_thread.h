// The thread that owns the engine. Jobs are started by tier, by priority, then by deadline, then in
// the order in which they came; those that find no room wait in a bounded queue, in which one that
// comes before others takes the place of the last. What happens to a
// job is handed to its listener through the post function given at construction (the event loop's),
// one call for all jobs of a step.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "server/metrics.h"
#include "server/release.h"

namespace ultraspeed::server {

// Called, and let go, on the thread that the post function leads to. on_failed, on_deadline and an
// event with `finished` are the last call for a job; after cancel() a few calls may still be under
// way.
class JobListener {
 public:
  virtual ~JobListener() = default;
  // The job has a session (0) or a place in the queue (from 1: the next one). Called once, before
  // anything else but a failure.
  virtual void on_accepted(size_t queue_position) = 0;
  // The engine has taken the job at that time: its prefill begins. Called once, behind
  // on_accepted().
  virtual void on_started(std::chrono::steady_clock::time_point time) = 0;
  // What one step did for this job, in order; not empty.
  virtual void on_step(std::span<const engine::StepEvent> events) = 0;
  // kOutOfMemory: the queue is full; kInvalidArgument: the engine refused the job; kInternal: the
  // engine failed; kCancelled: fail_all().
  virtual void on_failed(const Error& error) = 0;
  // The job's time is over.
  virtual void on_deadline() = 0;
};

// How much time jobs have together, from the first one's start on.
struct JobBudget {
  std::chrono::milliseconds duration;
  std::optional<std::chrono::steady_clock::time_point> end;  // once it has begun
};

// Jobs of one prompt and parameters but for the seed: the prompt is computed once, and as soon as
// it is, the others become forks of the first.
struct JobGroup {
  std::shared_ptr<JobBudget> budget;  // may be several groups'; nullptr: none
  std::optional<std::chrono::steady_clock::time_point> deadline;

  bool is_late(std::chrono::steady_clock::time_point now) const {
    return (deadline && *deadline <= now) || (budget && budget->end && *budget->end <= now);
  }
};

struct Job {
  std::vector<int32_t> prompt;
  engine::GenerationParams params;
  std::shared_ptr<const engine::TokenConstraint> constraint;  // params may point to it
  std::shared_ptr<JobListener> listener;
  int tier = 0;                     // lower ones come first,
  int32_t priority = 0;             // then lower ones of these
  std::shared_ptr<JobGroup> group;  // not null; from submit() on the engine thread's
};

using JobId = uint64_t;

class EngineThread {
 public:
  // REQUIRES: engine outlives this and is used by nobody else.
  EngineThread(engine::Engine& engine, uint32_t max_queue, Post post);
  ~EngineThread() { stop(); }

  // Any thread; return at once.
  JobId submit(Job job) { return submit(std::vector<Job>{std::move(job)}).front(); }
  // Together they take one place of the queue, until the first has started. Those of a group are
  // next to each other; one without gets its own. REQUIRES: at least one.
  std::vector<JobId> submit(std::vector<Job> jobs);
  void cancel(JobId id) { cancel(std::vector<JobId>{id}); }
  void cancel(std::vector<JobId> ids);  // takes effect before the engine's next step
  void fail_all(const Error& error);    // every job that was submitted so far
  void stop();                          // cancels all jobs without a word and joins

  bool is_healthy() const { return is_healthy_.load(); }  // the last step succeeded
  EngineLoad load() const;

 private:
  struct Command {
    enum class Kind { kSubmit, kCancel, kFailAll };
    Kind kind = Kind::kSubmit;
    JobId id = 0;            // kSubmit: of the first job
    std::vector<JobId> ids;  // kCancel
    std::vector<Job> jobs;   // kSubmit
    Error error;             // kFailAll
  };
  struct WaitingJob {
    JobId id = 0;
    Job job;
    JobId submission = 0;  // the first one's id of those that were submitted together
    bool is_first() const { return id == submission; }
    std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
    bool is_accepted = false;

    bool comes_before(const WaitingJob& other) const;
  };
  struct RunningJob {
    JobId id = 0;
    std::shared_ptr<JobListener> listener;
    std::shared_ptr<JobGroup> group;
    size_t prompt_size = 0;
    bool has_prompt_done = false;
  };
  enum class Attempt { kOver, kNoRoom, kNotYet };  // kOver: it runs, or has failed

  void push(Command command);
  void run();
  bool take_commands(std::vector<Command>* commands);
  void apply(Command command);
  void add_waiting(Command command);
  void cancel_now(std::vector<JobId> ids);
  void fail_all_now(const Error& error);
  void drop_submission(JobId submission);
  void fail_running(const Error& error);
  void admit();
  void publish_load();
  void end_late_jobs();
  size_t num_places_taken() const;
  Attempt try_start(WaitingJob& waiting);
  const std::pair<const engine::SessionId, RunningJob>* find_sibling(const JobGroup& group) const;
  void step();
  void deliver(const std::vector<engine::StepEvent>& events);
  using WaitingJobs = std::deque<WaitingJob>;
  void accept(WaitingJob& waiting, size_t queue_position);
  size_t place_of(WaitingJobs::const_iterator waiting) const;
  void late(const std::shared_ptr<JobListener>& listener);
  void fail(const std::shared_ptr<JobListener>& listener, const Error& error);

  engine::Engine& engine_;
  const size_t max_queue_;
  const Post post_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Command> commands_;
  JobId last_id_ = 0;
  bool is_stopping_ = false;

  // Only the engine thread touches these.
  WaitingJobs waiting_;  // in the order in which they are to start
  std::unordered_map<engine::SessionId, RunningJob> running_;
  // False: the engine had none, nothing has ended since, and as many pages are used.
  bool may_have_room_ = true;
  uint32_t num_pages_at_refusal_ = 0;

  std::atomic<bool> is_healthy_ = true;
  mutable std::mutex load_mutex_;
  EngineLoad load_;  // guarded by load_mutex_
  std::thread thread_;
};

}  // namespace ultraspeed::server
