// Runs programs the way a user does: arguments, standard input, exit code, what they print,
// signals, and a terminal.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "support/temporary_directory.h"

namespace ultraspeed::test {

struct Finished {
  int exit_code = -1;  // 128 + the signal's number for one that a signal ended
  std::string output;
  std::string errors;
};

struct ProcessInput {
  std::vector<std::string> arguments;  // the program first
  std::string standard_input;
  std::vector<std::string> environment;  // "NAME=value", on top of the test's own
};

// The whole file; empty if it cannot be read.
std::string read_text(const std::string& path);

// A started program; its destructor kills it.
class Process {
 public:
  explicit Process(const ProcessInput& input);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send_signal(int number) const;
  // Waits until standard error contains `text`; false after ten seconds or when the program ended.
  bool wait_for_errors(std::string_view text) const;
  std::string errors() const;
  Finished wait();

 private:
  TemporaryDirectory directory_;  // of the files that it reads and writes
  pid_t id_ = -1;
};

Finished run_process(const ProcessInput& input);

// A program on a terminal of its own (a pseudo-terminal of 24 rows and 80 columns).
class TerminalProcess {
 public:
  // `environment`: "NAME=value", on top of the test's own without NO_COLOR.
  explicit TerminalProcess(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& environment = {});
  ~TerminalProcess();
  TerminalProcess(const TerminalProcess&) = delete;
  TerminalProcess& operator=(const TerminalProcess&) = delete;

  void type(std::string_view text) const;
  // Reads until what was printed since the last call contains `text`; returns all of that, or an
  // empty string after 20 seconds.
  std::string read_until(std::string_view text);
  int wait();  // the exit code

 private:
  int terminal_ = -1;
  pid_t id_ = -1;
  std::string unread_;
};

}  // namespace ultraspeed::test
