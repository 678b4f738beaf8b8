// The one program: every command is a subcommand of `ultraspeed`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <string_view>

#include "apps/admin_command.h"
#include "apps/batch_command.h"
#include "apps/bench_command.h"
#include "apps/chat_command.h"
#include "apps/completions_command.h"
#include "apps/connect_command.h"
#include "apps/doctor_command.h"
#include "apps/inspect_command.h"
#include "apps/plan_command.h"
#include "apps/provenance.h"
#include "apps/pull_command.h"
#include "apps/quantize_command.h"
#include "apps/report_command.h"
#include "apps/run_command.h"
#include "apps/score_command.h"
#include "apps/serve_command.h"
#include "apps/signals.h"
#include "apps/simulate_command.h"
#include "apps/terminal.h"
#include "apps/train_drafter_command.h"
#include "apps/train_model_command.h"

namespace ultraspeed::apps {
namespace {

constexpr int kUsageError = 2;

int parse_and_run(int argc, char** argv) {
  int exit_code = 0;
  CLI::App app("Decodes language models of the MiMo-V2 family.", "ultraspeed");
  app.set_version_flag("--version", fmt::format("ultraspeed {}", version()));
  app.require_subcommand(0, 1);  // none is said below: an unknown word comes first
  app.get_formatter()->column_width(36);
  add_run_command(app, &exit_code);
  add_chat_command(app, &exit_code);
  add_serve_command(app, &exit_code);
  add_batch_command(app, &exit_code);
  add_connect_command(app, &exit_code);
  add_score_command(app, &exit_code);
  add_bench_command(app, &exit_code);
  add_report_command(app, &exit_code);
  add_quantize_command(app, &exit_code);
  add_train_drafter_command(app, &exit_code);
  add_train_model_command(app, &exit_code);
  add_pull_command(app, &exit_code);
  add_inspect_command(app, &exit_code);
  add_plan_command(app, &exit_code);
  add_simulate_command(app, &exit_code);
  add_doctor_command(app, &exit_code);
  add_admin_command(app, &exit_code);
  add_completions_command(app, &exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ConversionError& error) {
    // CLI11 says "Could not convert: --port = 99999", whatever was wrong with the number.
    std::string_view what = error.what();
    what.remove_prefix(std::min(what.size(), what.rfind(": ") + 2));
    report_error({ErrorCode::kInvalidArgument,
                  fmt::format("{}: not a number, or too large; see --help", what)});
    return kUsageError;
  } catch (const CLI::ParseError& error) {
    report_error({ErrorCode::kInvalidArgument, fmt::format("{}; see --help", error.what())});
    return kUsageError;
  }
  if (!app.get_subcommands().empty()) return exit_code;
  report_error({ErrorCode::kInvalidArgument, "no command; see --help"});
  return kUsageError;
}

}  // namespace
}  // namespace ultraspeed::apps

int main(int argc, char** argv) {
  ultraspeed::apps::ignore_file_size_signal();
  try {
    return ultraspeed::apps::parse_and_run(argc, argv);
  } catch (const std::exception& exception) {  // memory, and what a library may still throw
    return ultraspeed::apps::report_error(
        {ultraspeed::ErrorCode::kInternal, fmt::format("unexpected: {}", exception.what())});
  }
}
