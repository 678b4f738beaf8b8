#include "apps/graphviz.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "apps/terminal.h"

namespace ultraspeed::apps {

Status render_svg(std::string_view dot, const std::string& svg_path) {
  // dot reads the graph from an unnamed temporary file: nothing to clean up, no pipe to fill.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  if (file == nullptr) {
    return make_error(ErrorCode::kIo, "cannot create a temporary file: {}", std::strerror(errno));
  }
  const int descriptor = fileno(file.get());
  US_TRY(write_all(descriptor, dot));
  lseek(descriptor, 0, SEEK_SET);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, descriptor, STDIN_FILENO);
  std::array<std::string, 4> words = {"dot", "-Tsvg", "-o", svg_path};
  std::array<char*, 5> arguments = {words[0].data(), words[1].data(), words[2].data(),
                                    words[3].data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, "dot", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return make_error(ErrorCode::kNotFound,
                      "cannot run dot: {}; install the package graphviz, or leave out --svg and "
                      "write the graph itself with -o FILE",
                      std::strerror(error));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return make_error(ErrorCode::kIo, "{}: dot failed to draw it; its message is above", svg_path);
}

}  // namespace ultraspeed::apps
