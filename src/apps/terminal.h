// What commands share to talk to a person: what the terminal can do, errors, progress, and writing
// an answer.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/progress.h"
#include "base/result.h"

namespace ultraspeed::apps {

struct Terminal {
  bool is_terminal = false;
  bool has_escapes = false;  // it moves its cursor; off with TERM=dumb
  bool use_color = false;    // off with NO_COLOR (no-color.org), too
  uint32_t columns = 80;
  uint32_t rows = 24;
};

// Of a file descriptor, as it is now: windows change their size.
Terminal describe_terminal(int file_descriptor);

// Writes all of it, unbuffered. Errors: kIo (a full disk); a closed pipe ends the process as usual.
Status write_all(int file_descriptor, std::string_view text);

// For output that nobody can act on when it fails.
void write_to_stderr(std::string_view text);

// A line on standard error that says what is going on and leaves no trace; on terminals alone.
class PassingLine {
 public:
  PassingLine();
  ~PassingLine() { clear(); }
  PassingLine(const PassingLine&) = delete;
  PassingLine& operator=(const PassingLine&) = delete;

  void show(std::string_view text) const;
  void clear() const { show(""); }

 private:
  bool is_terminal_;
};

// "ultraspeed: MESSAGE" on standard error; 1, the exit code.
int report_error(const Error& error);

// "ultraspeed: SENTENCE" on standard error; nothing for an empty one.
void warn(std::string_view sentence);

// A line on standard error after an answer on standard output, which stays as it is in a file or
// pipe of its own; where both meet, and on a terminal, the line begins after a line break.
Status print_summary(std::string_view answer, std::string_view summary);

// On standard error.
ProgressOptions loading_progress(std::string_view label);

}  // namespace ultraspeed::apps
