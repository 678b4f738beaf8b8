// An answer as a person reads it while it comes: reasoning is dimmed on a terminal and left out
// elsewhere.
#pragma once

#include <functional>
#include <string_view>

#include "apps/terminal.h"
#include "base/result.h"

namespace ultraspeed::apps {

class AnswerPrinter {
 public:
  using Write = std::function<Status(std::string_view)>;

  AnswerPrinter(const Terminal& terminal, Write write);

  Status show_reasoning(std::string_view text);
  Status show_content(std::string_view text);
  Status end_line();  // unless nothing was shown or the line has ended

 private:
  const Terminal terminal_;
  const Write write_;
  bool has_reasoning_ = false;  // and no content yet
  char last_ = '\n';            // the last character shown
};

}  // namespace ultraspeed::apps
