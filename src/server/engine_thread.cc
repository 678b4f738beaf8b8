#include "server/engine_thread.h"

#include <algorithm>
#include <utility>

namespace ultraspeed::server {

using engine::SessionId;
using engine::StepEvent;
namespace {

// A handle whose last copy, wherever it goes, hands the listener to the post function to be let go.
std::shared_ptr<JobListener> released_by(const EngineThread::Post& post,
                                         std::shared_ptr<JobListener> listener) {
  JobListener* const pointer = listener.get();
  return {pointer, [post, listener = std::move(listener)](JobListener*) mutable {
            post([listener = std::move(listener)] {});
          }};
}

}  // namespace

EngineThread::EngineThread(engine::Engine& engine, uint32_t max_queue, Post post)
    : engine_(engine), max_queue_(max_queue), post_(std::move(post)) {
  thread_ = std::thread([this] { run(); });
}

JobId EngineThread::submit(Job job) {
  Command command;
  command.kind = Command::Kind::kSubmit;
  command.job = std::move(job);
  command.job.listener = released_by(post_, std::move(command.job.listener));
  JobId id;
  {
    const std::lock_guard lock(mutex_);
    command.id = id = ++last_id_;
    commands_.push_back(std::move(command));
  }
  changed_.notify_one();
  return id;
}

void EngineThread::cancel(JobId id) {
  Command command;
  command.kind = Command::Kind::kCancel;
  command.id = id;
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
      waiting_.push_back({command.id, std::move(command.job)});
      admit();
      if (waiting_.size() > max_queue_) {
        fail(waiting_.back().job.listener,
             Error{
                 ErrorCode::kOutOfMemory,
                 fmt::format("All {} places of the server's queue are taken, this request would be "
                             "number {} in it; try again later.",
                             max_queue_, waiting_.size())});
        waiting_.pop_back();
      } else if (!waiting_.empty()) {
        accept(waiting_.back());
      }
      return;
    case Command::Kind::kCancel:
      return cancel_now(command.id);
    case Command::Kind::kFailAll:
      return fail_all_now(command.error);
  }
}

void EngineThread::cancel_now(JobId id) {
  std::erase_if(waiting_, [id](const WaitingJob& job) { return job.id == id; });
  const auto job = std::find_if(running_.begin(), running_.end(),
                                [id](const auto& entry) { return entry.second.id == id; });
  if (job == running_.end()) return;
  engine_.cancel(job->first);
  running_.erase(job);
  may_have_room_ = true;
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
  while (!waiting_.empty() && try_start(waiting_.front())) waiting_.pop_front();
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

// False: no room now. True: the job runs or has failed.
bool EngineThread::try_start(WaitingJob& waiting) {
  if (!may_have_room_) return false;
  Job& job = waiting.job;
  Result<SessionId> session = engine_.start(job.prompt, job.params);
  if (!session && session.error().code == ErrorCode::kOutOfMemory && !running_.empty()) {
    may_have_room_ = false;
    return false;
  }
  if (!session) {
    Error error = session.error();
    if (error.code == ErrorCode::kOutOfMemory) {  // even alone it does not fit: waiting is no use
      error = {ErrorCode::kInvalidArgument, "The request is too large: " + error.message};
    }
    fail(job.listener, error);
    return true;
  }
  accept(waiting);
  post_([listener = job.listener] { listener->on_started(); });
  running_.emplace(*session, RunningJob{waiting.id, std::move(job.listener)});
  return true;
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

void EngineThread::accept(WaitingJob& waiting) {
  if (std::exchange(waiting.is_accepted, true)) return;
  post_([listener = waiting.job.listener] { listener->on_accepted(); });
}

void EngineThread::fail(const std::shared_ptr<JobListener>& listener, const Error& error) {
  post_([listener, error] { listener->on_failed(error); });
}

}  // namespace ultraspeed::server
