#include "apps/chat_command.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <optional>
#include <random>

#include "apps/answer_printer.h"
#include "apps/conversation.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "apps/sampling_options.h"
#include "apps/signals.h"
#include "apps/status_line.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct ChatOptions {
  ModelOptions model;
  SamplingOptions sampling;
  TemplateOptions chat;
  std::optional<std::string> system;
};

constexpr std::string_view kHelp =
    "/reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer\n";

// Lines of standard input; Ctrl-C ends the wait for one.
class LineReader {
 public:
  enum class Outcome { kLine, kEnd, kInterrupted };

  explicit LineReader(const CaughtSignals& signals) : signals_(signals) {}

  Outcome read_line(std::string* line) {
    while (true) {
      const size_t end = buffer_.find('\n');
      if (end != std::string::npos) {
        *line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Outcome::kLine;
      }
      std::array<pollfd, 2> entries = {pollfd{STDIN_FILENO, POLLIN, 0},
                                       pollfd{signals_.descriptor(), POLLIN, 0}};
      poll(entries.data(), entries.size(), -1);
      if (signals_.take()) return Outcome::kInterrupted;
      if (entries[0].revents == 0) continue;
      std::array<char, 4096> chunk = {};
      const ssize_t count = read(STDIN_FILENO, chunk.data(), chunk.size());
      if (count <= 0 && buffer_.empty()) return Outcome::kEnd;
      // The last line may lack its end.
      buffer_ += count <= 0 ? "\n" : std::string_view(chunk.data(), static_cast<size_t>(count));
    }
  }

 private:
  const CaughtSignals& signals_;
  std::string buffer_;
};

// Asks and shows the answer while it comes; on a terminal with its speed in the last row.
Result<Answer> ask(Conversation& conversation, std::string_view message,
                   const GenerationRequest& request, const CaughtSignals& signals) {
  const auto write = [](std::string_view text) { return write_all(STDOUT_FILENO, text); };
  AnswerPrinter printer(describe_terminal(STDOUT_FILENO), write);
  StatusLine status([] { return describe_terminal(STDOUT_FILENO); },
                    [&write](std::string_view text) { static_cast<void>(write(text)); });
  signals.take();  // what came before is not for this answer
  AnswerObserver observer;
  observer.on_reasoning = [&printer](std::string_view text) {
    return printer.show_reasoning(text);
  };
  observer.on_content = [&printer](std::string_view text) { return printer.show_content(text); };
  observer.on_step = [&status](const GenerationResult& so_far) {
    status.show(fmt::format("{} tokens, {:.1f} tokens per second, Ctrl-C stops",
                            so_far.tokens.size(), so_far.tokens_per_second()));
  };
  observer.should_stop = [&signals] { return signals.take(); };
  auto answer = conversation.ask(message, request, observer);
  status.release();
  US_TRY(printer.end_line());
  return answer;
}

// Whether the line was a command. *is_over: it ends the chat.
bool run_slash_command(std::string_view line, Conversation& conversation, bool* is_over) {
  if (!line.starts_with('/')) return false;
  if (line == "/reset") {
    conversation.reset();
  } else if (line == "/quit" || line == "/exit") {
    *is_over = true;
  } else {
    write_to_stderr(kHelp);
  }
  return true;
}

Status talk(Conversation& conversation, const GenerationRequest& request) {
  const bool is_interactive = isatty(STDIN_FILENO) == 1;
  if (is_interactive) write_to_stderr(kHelp);
  US_ASSIGN(const auto signals, CaughtSignals::catch_signals({SIGINT}));
  LineReader reader(signals);
  std::string line;
  bool is_over = false;
  while (!is_over) {
    if (is_interactive) US_TRY(write_all(STDOUT_FILENO, "> "));
    const LineReader::Outcome outcome = reader.read_line(&line);
    if (outcome == LineReader::Outcome::kInterrupted) {
      write_to_stderr("\n(Ctrl-D or /quit ends)\n");
      continue;
    }
    if (outcome == LineReader::Outcome::kEnd) {
      if (is_interactive) US_TRY(write_all(STDOUT_FILENO, "\n"));
      return {};
    }
    if (line.empty() || run_slash_command(line, conversation, &is_over)) continue;
    const auto answer = ask(conversation, line, request, signals);
    if (answer) {
      write_to_stderr(describe_speed(answer->generation, answer->prompt_tokens) + "\n");
    } else if (answer.error().code == ErrorCode::kInvalidArgument) {
      // This message was refused, perhaps because the context is full; others may do.
      report_error({answer.error().code, answer.error().message + "; /reset starts anew"});
    } else {
      return tl::unexpected(answer.error());
    }
  }
  return {};
}

Status chat(const ChatOptions& options) {
  US_TRY(check_needs_no_output(options.model.speculation));
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_TRY(model.require_chat_template());
  GenerationRequest request;
  const uint64_t seed = std::random_device{}();
  US_ASSIGN(request.params, generation_params(options.sampling, model, seed, 0));
  request.params.sampling.acceptance = options.model.speculation.acceptance;
  request.stop = options.sampling.stop;
  US_ASSIGN(const auto engine, model.open_engine(options.model, 1));
  warn(model.speculation().describe_stand_in(request.params.sampling));
  Conversation conversation(model, *engine, options.chat, options.system);
  return talk(conversation, request);
}

}  // namespace

void add_chat_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<ChatOptions>();
  CLI::App& command = *app.add_subcommand("chat", "Talk in the terminal");
  command.add_option("--system", options->system, "The system message");
  add_template_options(command, &options->chat);
  add_model_options(command, &options->model);
  add_speculation_options(command, &options->model.speculation);
  add_acceptance_option(command, &options->model.speculation);
  add_sampling_options(command, &options->sampling);
  command.callback([options, exit_code] {
    const Status status = chat(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
