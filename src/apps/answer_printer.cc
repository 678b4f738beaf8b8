#include "apps/answer_printer.h"

#include <fmt/format.h>

#include <utility>

namespace ultraspeed::apps {

AnswerPrinter::AnswerPrinter(const Terminal& terminal, Write write)
    : terminal_(terminal), write_(std::move(write)) {}

Status AnswerPrinter::show_reasoning(std::string_view text) {
  if (!terminal_.is_terminal || text.empty()) return {};
  has_reasoning_ = true;
  last_ = text.back();
  return write_(terminal_.use_color ? fmt::format("\033[2m{}\033[0m", text) : std::string(text));
}

Status AnswerPrinter::show_content(std::string_view text) {
  if (text.empty()) return {};
  if (std::exchange(has_reasoning_, false) && text.front() != '\n') US_TRY(end_line());
  last_ = text.back();
  return write_(text);
}

Status AnswerPrinter::end_line() {
  if (std::exchange(last_, '\n') == '\n') return {};
  return write_("\n");
}

}  // namespace ultraspeed::apps
