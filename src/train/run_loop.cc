#include "train/run_loop.h"

#include <filesystem>

namespace ultraspeed::train {

Status RunState::resume(const RunOptions& options, const std::string& run, Optimizers* optimizers,
                        const Log& log) {
  std::error_code error;
  if (options.checkpoint.empty() || !std::filesystem::exists(options.checkpoint, error)) return {};
  US_ASSIGN(const CheckpointState read,
            read_checkpoint(options.checkpoint, run, optimizers->state()));
  num_steps_done_ = read.num_steps;
  seconds_before_ = read.seconds;
  optimizers->set_num_updates(read.num_updates);
  log(fmt::format("goes on after step {} of {}", num_steps_done_, options.num_steps));
  return {};
}

Status RunState::save(const RunOptions& options, const std::string& run,
                      Optimizers* optimizers) const {
  if (options.checkpoint.empty()) return {};
  return guarded([&] {
    const CheckpointState at = {run, num_steps_done_, optimizers->num_updates(), seconds()};
    return write_checkpoint(options.checkpoint, at, optimizers->state());
  });
}

double RunState::seconds() const {
  const std::chrono::duration<double> here = std::chrono::steady_clock::now() - begin_;
  return seconds_before_ + here.count();
}

Result<bool> run_steps(const RunOptions& options, const RunState& state, const RunHooks& hooks,
                       const Log& log) {
  const double first_second = state.seconds();
  double logged_at = first_second;
  uint64_t logged_step = state.num_steps_done();
  const double rate = options.has_muon() ? options.muon_learning_rate : options.learning_rate;
  bool is_in_time = true;
  while (state.num_steps_done() < options.num_steps && is_in_time) {
    US_ASSIGN(const StepLine line, hooks.step());
    const uint64_t done = state.num_steps_done();
    if (done % options.log_every == 0) {
      const double now = state.seconds();
      const double seconds_a_step = (now - logged_at) / static_cast<double>(done - logged_step);
      const auto left = static_cast<double>(options.num_steps - done);
      log(fmt::format("step {}/{}  {}  rate {:.2e}  {:.0f} tokens/s  {:.1f} min left", done,
                      options.num_steps, line.text, rate * schedule_factor(options, done - 1),
                      static_cast<double>(line.num_tokens) / seconds_a_step,
                      left * seconds_a_step / 60));
      logged_at = now;
      logged_step = done;
    }
    if (hooks.evaluate && done % options.eval_every == 0) US_TRY(hooks.evaluate());
    if (done % options.checkpoint_every == 0) US_TRY(hooks.save());
    is_in_time = options.minutes <= 0 || state.seconds() - first_second < options.minutes * 60;
  }
  US_TRY(hooks.save());
  if (hooks.evaluate) US_TRY(hooks.evaluate());
  return state.num_steps_done() == options.num_steps;
}

std::string end_line(const RunOptions& options, const RunState& state) {
  const bool is_complete = state.num_steps_done() == options.num_steps;
  return fmt::format("{} after {} of {} steps, {:.1f} min",
                     is_complete ? "done" : "stopped in time", state.num_steps_done(),
                     options.num_steps, state.seconds() / 60);
}

}  // namespace ultraspeed::train
