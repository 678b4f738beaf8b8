#include "apps/signals.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace ultraspeed::apps {
namespace {

volatile sig_atomic_t write_end = -1;  // of the pipe; a handler can reach nothing but globals

// A full pipe drops the byte: enough of them are waiting.
void note_signal(int number) {
  const int saved_errno = errno;
  const auto byte = static_cast<char>(number);
  static_cast<void>(!write(write_end, &byte, 1));
  errno = saved_errno;
}

}  // namespace

void ignore_file_size_signal() {
  signal(SIGXFSZ, SIG_IGN);
}

Result<CaughtSignals> CaughtSignals::catch_signals(std::initializer_list<int> numbers) {
  std::array<int, 2> ends = {};
  if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    return make_error(ErrorCode::kIo, "cannot create a pipe for signals: {}", std::strerror(errno));
  }
  write_end = ends[1];
  struct sigaction action = {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  for (const int number : numbers) sigaction(number, &action, nullptr);
  return CaughtSignals(ends[0]);
}

bool CaughtSignals::take() const {
  std::array<char, 64> bytes = {};
  bool has_come = false;
  while (read(descriptor_, bytes.data(), bytes.size()) > 0) has_come = true;
  return has_come;
}

int CaughtSignals::wait() const {
  pollfd entry = {descriptor_, POLLIN, 0};
  char byte = 0;
  while (read(descriptor_, &byte, 1) != 1) poll(&entry, 1, -1);
  return byte;
}

}  // namespace ultraspeed::apps
