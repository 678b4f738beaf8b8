#include "e2e/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/check.h"

namespace ultraspeed::test {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& extra) {
  std::vector<std::string> all = extra;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    bool is_replaced = text.starts_with("ULTRASPEED_");  // the tester's own settings do not count
    for (const std::string& other : extra) {
      const size_t name_end = other.find('=') + 1;
      is_replaced |= text.compare(0, name_end, other, 0, name_end) == 0;
    }
    if (!is_replaced) all.push_back(text);
  }
  return all;
}

int wait_for_exit(pid_t id) {
  int status = 0;
  while (waitpid(id, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

Process::Process(const ProcessInput& input) {
  const std::string in = directory_.path() + "/in";
  std::ofstream(in, std::ios::binary) << input.standard_input;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  const int create = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (directory_.path() + "/out").c_str(),
                                   create, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (directory_.path() + "/err").c_str(),
                                   create, 0600);
  std::vector<std::string> arguments = input.arguments;
  std::vector<std::string> environment = merged_environment(input.environment);
  const int error = posix_spawn(&id_, arguments[0].c_str(), &actions, nullptr,
                                pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  US_CHECK(error == 0, "cannot run {}: error {}", arguments[0], error);
}

Process::~Process() {
  if (id_ < 0) return;
  kill(id_, SIGKILL);
  wait_for_exit(id_);
}

void Process::send_signal(int number) const {
  US_CHECK(kill(id_, number) == 0);
}

std::string Process::errors() const {
  return read_text(directory_.path() + "/err");
}

bool Process::wait_for_errors(std::string_view text) const {
  const auto deadline = Clock::now() + std::chrono::seconds(120);  // a sanitizer loads slowly
  while (Clock::now() < deadline) {
    if (errors().find(text) != std::string::npos) return true;
    siginfo_t info = {};
    const bool has_ended =
        waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == id_;
    if (has_ended) return errors().find(text) != std::string::npos;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

Finished Process::wait() {
  Finished finished;
  finished.exit_code = wait_for_exit(id_);
  id_ = -1;
  finished.output = read_text(directory_.path() + "/out");
  finished.errors = errors();
  return finished;
}

Finished run_process(const ProcessInput& input) {
  return Process(input).wait();
}

TerminalProcess::TerminalProcess(const std::vector<std::string>& arguments,
                                 const std::vector<std::string>& environment) {
  const winsize size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  std::vector<std::string> words = arguments;
  const std::vector<char*> argv = pointers(words);
  std::vector<std::string> settings = environment;
  id_ = forkpty(&terminal_, nullptr, nullptr, &size);
  US_CHECK(id_ >= 0, "no pseudo-terminal");
  if (id_ == 0) {
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    for (std::string& setting : settings) putenv(setting.data());
    execv(argv[0], argv.data());
    _exit(127);
  }
}

TerminalProcess::~TerminalProcess() {
  if (id_ >= 0) {
    kill(id_, SIGKILL);
    wait_for_exit(id_);
  }
  close(terminal_);
}

void TerminalProcess::type(std::string_view text) const {
  US_CHECK(write(terminal_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string TerminalProcess::read_until(std::string_view text) {
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  while (Clock::now() < deadline) {
    const size_t found = unread_.find(text);
    if (found != std::string::npos) {
      const std::string result = unread_.substr(0, found + text.size());
      unread_.erase(0, found + text.size());
      return result;
    }
    pollfd poll_entry = {terminal_, POLLIN, 0};
    if (poll(&poll_entry, 1, 100) <= 0) continue;
    char chunk[4096];
    const ssize_t count = read(terminal_, chunk, sizeof(chunk));
    if (count <= 0) break;  // the program has ended
    unread_.append(chunk, static_cast<size_t>(count));
  }
  return {};
}

int TerminalProcess::wait() {
  const int exit_code = wait_for_exit(id_);
  id_ = -1;
  return exit_code;
}

}  // namespace ultraspeed::test
