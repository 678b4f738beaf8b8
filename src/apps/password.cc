#include "apps/password.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "apps/files.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

// The controlling terminal, which does not echo until this is gone.
class SilentTerminal {
 public:
  SilentTerminal() : file_(open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (file_ < 0 || tcgetattr(file_, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    is_silent_ = tcsetattr(file_, TCSAFLUSH, &silent) == 0;
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;
  ~SilentTerminal() {
    if (is_silent_) tcsetattr(file_, TCSAFLUSH, &before_);
    if (file_ >= 0) close(file_);
  }

  bool is_silent() const { return is_silent_; }

  Result<std::string> ask(const std::string& question) const {
    US_TRY(write_all(file_, question));
    std::string line;
    for (char c = 0; read(file_, &c, 1) == 1 && c != '\n';) line += c;
    US_TRY(write_all(file_, "\n"));
    return line;
  }

 private:
  int file_;
  termios before_ = {};
  bool is_silent_ = false;
};

}  // namespace

Result<std::string> read_password(const std::string& file) {
  if (!file.empty()) {
    US_ASSIGN(const std::string text, read_file(file));
    return text.substr(0, text.find_first_of("\r\n"));
  }
  const SilentTerminal terminal;
  if (!terminal.is_silent()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "no terminal to ask for a password; give --password-file FILE (-: standard "
                      "input)");
  }
  US_ASSIGN(std::string password, terminal.ask("Password: "));
  US_ASSIGN(const std::string again, terminal.ask("Once more: "));
  if (again == password) return password;
  return make_error(ErrorCode::kInvalidArgument, "the two passwords differ");
}

}  // namespace ultraspeed::apps
