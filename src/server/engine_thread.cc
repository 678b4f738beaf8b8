#include "server/engine_thread.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "server/release.h"

namespace ultraspeed::server {

using engine::SessionId;
using engine::StepEvent;
EngineThread::EngineThread(engine::Engine& engine, uint32_t max_queue, Post post)
    : engine_(engine), max_queue_(max_queue), post_(std::move(post)) {
  thread_ = std::thread([this] { run(); });
}

std::vector<JobId> EngineThread::submit(std::vector<Job> jobs) {
  Command command;
  command.kind = Command::Kind::kSubmit;
  command.jobs = std::move(jobs);
  std::vector<JobId> ids;
  {
    const std::lock_guard lock(mutex_);
    command.id = last_id_ + 1;
    for (Job& job : command.jobs) {
      if (job.group == nullptr) job.group = std::make_shared<JobGroup>();
      job.listener = released_by(post_, std::move(job.listener));
      ids.push_back(++last_id_);
    }
    commands_.push_back(std::move(command));
  }
  changed_.notify_one();
  return ids;
}

void EngineThread::cancel(std::vector<JobId> ids) {
  Command command;
  command.kind = Command::Kind::kCancel;
  command.ids = std::move(ids);
  push(std::move(command));
}

void EngineThread::fail_all(const Error& error) {
  Command command;
  command.kind = Command::Kind::kFailAll;
  command.error = error;
  push(std::move(command));
}

void EngineThread::push(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  changed_.notify_one();
}

void EngineThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EngineThread::run() {
  std::vector<Command> commands;
  while (take_commands(&commands)) {
    for (Command& command : commands) apply(std::move(command));
    end_late_jobs();
    admit();
    publish_load();
    if (!running_.empty()) step();
    if (running_.empty()) publish_load();  // nothing may follow for long
  }
  for (const auto& [session, job] : running_) engine_.cancel(session);
  running_.clear();
  waiting_.clear();
}

// Waits for something to do; false: stop.
bool EngineThread::take_commands(std::vector<Command>* commands) {
  commands->clear();
  std::unique_lock lock(mutex_);
  const bool is_idle = running_.empty() && waiting_.empty();
  if (is_idle) changed_.wait(lock, [this] { return is_stopping_ || !commands_.empty(); });
  commands->swap(commands_);
  return !is_stopping_;
}

void EngineThread::apply(Command command) {
  switch (command.kind) {
    case Command::Kind::kSubmit:
      return add_waiting(std::move(command));
    case Command::Kind::kCancel:
      return cancel_now(std::move(command.ids));
    case Command::Kind::kFailAll:
      return fail_all_now(command.error);
  }
}

bool EngineThread::WaitingJob::comes_before(const WaitingJob& other) const {
  const auto rank = [](const WaitingJob& waiting) {
    return std::make_tuple(waiting.job.tier, waiting.job.priority, waiting.deadline, waiting.id);
  };
  return rank(*this) < rank(other);
}

// In a full queue whoever would start last has no place: the newcomer, or one that has waited.
void EngineThread::add_waiting(Command command) {
  admit();
  for (size_t i = 0; i < command.jobs.size(); ++i) {
    WaitingJob waiting{command.id + i, std::move(command.jobs[i]), command.id};
    if (waiting.job.group->deadline) waiting.deadline = *waiting.job.group->deadline;
    const auto place = std::ranges::upper_bound(
        waiting_, waiting, [](const auto& a, const auto& b) { return a.comes_before(b); });
    waiting_.insert(place, std::move(waiting));
  }
  admit();
  if (num_places_taken() > max_queue_) {
    const auto last = std::find_if(waiting_.rbegin(), waiting_.rend(),
                                   [](const WaitingJob& job) { return job.is_first(); });
    drop_submission(last->submission);
  }
  const auto newest = std::ranges::find(waiting_, command.id, &WaitingJob::id);
  if (newest != waiting_.end()) accept(*newest, place_of(newest));
}

// In the queue, from 1: a submission takes one place.
size_t EngineThread::place_of(WaitingJobs::const_iterator waiting) const {
  return 1 + static_cast<size_t>(std::count_if(
                 waiting_.begin(), waiting, [](const WaitingJob& job) { return job.is_first(); }));
}

void EngineThread::drop_submission(JobId submission) {
  const auto first = std::ranges::find(waiting_, submission, &WaitingJob::id);
  const size_t place = place_of(first);
  const std::shared_ptr<JobListener> listener = first->job.listener;
  std::erase_if(waiting_, [&](const WaitingJob& job) { return job.submission == submission; });
  fail(listener, Error{ErrorCode::kOutOfMemory,
                       fmt::format("All {} places of the server's queue are taken, this request "
                                   "would be number {} in it; try again later.",
                                   max_queue_, place)});
}

size_t EngineThread::num_places_taken() const {
  return static_cast<size_t>(
      std::ranges::count_if(waiting_, [](const WaitingJob& job) { return job.is_first(); }));
}

void EngineThread::end_late_jobs() {
  const auto now = std::chrono::steady_clock::now();
  const auto is_late = [now](const WaitingJob& waiting) { return waiting.job.group->is_late(now); };
  for (const WaitingJob& waiting : waiting_) {
    if (is_late(waiting)) late(waiting.job.listener);
  }
  std::erase_if(waiting_, is_late);
  for (auto entry = running_.begin(); entry != running_.end();) {
    if (!entry->second.group->is_late(now)) {
      ++entry;
      continue;
    }
    engine_.cancel(entry->first);
    late(entry->second.listener);
    entry = running_.erase(entry);
    may_have_room_ = true;
  }
}

void EngineThread::cancel_now(std::vector<JobId> ids) {
  std::ranges::sort(ids);
  const auto is_meant = [&ids](JobId id) { return std::ranges::binary_search(ids, id); };
  std::erase_if(waiting_, [&](const WaitingJob& job) { return is_meant(job.id); });
  for (auto job = running_.begin(); job != running_.end();) {
    if (!is_meant(job->second.id)) {
      ++job;
      continue;
    }
    engine_.cancel(job->first);
    job = running_.erase(job);
    may_have_room_ = true;
  }
}

void EngineThread::fail_all_now(const Error& error) {
  for (const WaitingJob& waiting : waiting_) fail(waiting.job.listener, error);
  waiting_.clear();
  fail_running(error);
}

void EngineThread::fail_running(const Error& error) {
  for (const auto& [session, job] : running_) {
    engine_.cancel(session);
    fail(job.listener, error);
  }
  running_.clear();
  may_have_room_ = true;
}

// Starts waiting jobs while there is room.
void EngineThread::admit() {
  for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
    const Attempt attempt = try_start(*waiting);
    if (attempt == Attempt::kNoRoom) return;
    waiting = attempt == Attempt::kOver ? waiting_.erase(waiting) : std::next(waiting);
  }
}

void EngineThread::publish_load() {
  const EngineLoad load{static_cast<uint32_t>(running_.size()),
                        static_cast<uint32_t>(waiting_.size()), engine_.kv_usage()};
  const std::lock_guard lock(load_mutex_);
  load_ = load;
}

EngineLoad EngineThread::load() const {
  const std::lock_guard lock(load_mutex_);
  return load_;
}

// A running job of the group, with its prompt done if there is one.
const std::pair<const SessionId, EngineThread::RunningJob>* EngineThread::find_sibling(
    const JobGroup& group) const {
  const std::pair<const SessionId, RunningJob>* found = nullptr;
  for (const auto& entry : running_) {
    if (entry.second.group.get() != &group) continue;
    if (found == nullptr || entry.second.has_prompt_done) found = &entry;
  }
  return found;
}

EngineThread::Attempt EngineThread::try_start(WaitingJob& waiting) {
  if (!may_have_room_ && engine_.kv_usage().num_used == num_pages_at_refusal_) {
    return Attempt::kNoRoom;
  }
  Job& job = waiting.job;
  const auto* sibling = find_sibling(*job.group);
  if (sibling != nullptr && !sibling->second.has_prompt_done) return Attempt::kNotYet;
  Result<SessionId> session = sibling != nullptr
                                  ? engine_.fork(sibling->first, job.params.sampling.seed)
                                  : engine_.start(job.prompt, job.params);
  if (!session && session.error().code == ErrorCode::kOutOfMemory && !running_.empty()) {
    may_have_room_ = false;
    num_pages_at_refusal_ = engine_.kv_usage().num_used;
    return Attempt::kNoRoom;
  }
  if (!session) {
    Error error = session.error();
    if (error.code == ErrorCode::kOutOfMemory) {  // even alone it does not fit: waiting is no use
      error = {ErrorCode::kInvalidArgument, "The request is too large: " + error.message};
    }
    fail(job.listener, error);
    // Of the request nothing was wrong: the executor failed, and all sessions with it.
    if (error.code != ErrorCode::kInvalidArgument) fail_running(error);
    return Attempt::kOver;
  }
  accept(waiting, 0);
  const auto now = std::chrono::steady_clock::now();
  post_([listener = job.listener, now] { listener->on_started(now); });
  JobBudget* const budget = job.group->budget.get();
  if (budget != nullptr && !budget->end) budget->end = now + budget->duration;
  const bool is_fork = sibling != nullptr;
  running_.emplace(*session, RunningJob{waiting.id, std::move(job.listener), std::move(job.group),
                                        job.prompt.size(), is_fork});
  return Attempt::kOver;
}

void EngineThread::step() {
  std::vector<StepEvent> events;
  const Status status = engine_.step(&events);
  deliver(events);
  is_healthy_.store(status.has_value());
  if (!status) fail_running(status.error());
}

void EngineThread::deliver(const std::vector<StepEvent>& events) {
  struct Delivery {
    std::shared_ptr<JobListener> listener;
    std::vector<StepEvent> events;
  };
  std::vector<Delivery> deliveries;
  for (const StepEvent& event : events) {
    const auto job = running_.find(event.session);
    if (job == running_.end()) continue;
    const auto& listener = job->second.listener;
    auto delivery = std::find_if(deliveries.begin(), deliveries.end(),
                                 [&](const Delivery& d) { return d.listener == listener; });
    if (delivery == deliveries.end()) {
      delivery = deliveries.insert(deliveries.end(), {listener, {}});
    }
    delivery->events.push_back(event);
    if (event.prompt_tokens_done >= job->second.prompt_size) job->second.has_prompt_done = true;
    if (event.finished) {
      running_.erase(job);
      may_have_room_ = true;
    }
  }
  if (deliveries.empty()) return;
  post_([deliveries = std::move(deliveries)] {
    for (const Delivery& delivery : deliveries) delivery.listener->on_step(delivery.events);
  });
}

void EngineThread::accept(WaitingJob& waiting, size_t queue_position) {
  if (std::exchange(waiting.is_accepted, true)) return;
  post_(
      [listener = waiting.job.listener, queue_position] { listener->on_accepted(queue_position); });
}

void EngineThread::late(const std::shared_ptr<JobListener>& listener) {
  post_([listener] { listener->on_deadline(); });
}

void EngineThread::fail(const std::shared_ptr<JobListener>& listener, const Error& error) {
  post_([listener, error] { listener->on_failed(error); });
}

}  // namespace ultraspeed::server
