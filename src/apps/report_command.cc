#include "apps/report_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>

#include "apps/files.h"
#include "apps/report_archive.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

namespace fs = std::filesystem;

constexpr int kExitDiffers = 3;
constexpr size_t kMaxNameBytes = 90;  // a tar file's names have 100

struct Options {
  std::string folder, out, archive;
};

// The exit code of a check, with a sentence on standard error for a difference.
int exit_code_of(const Result<ReportCheck>& check) {
  if (!check) return report_error(check.error());
  if (check->difference.empty()) return 0;
  warn(check->difference);
  return kExitDiffers;
}

// The bench runs of a folder, by name. What else is there is said and left out.
Result<std::vector<TarFile>> read_runs(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".json") paths.push_back(it->path());
  }
  if (error) {
    return make_error(ErrorCode::kNotFound, "{}: cannot list the folder: {}", folder,
                      error.message());
  }
  std::ranges::sort(paths);
  std::vector<TarFile> runs;
  for (const fs::path& path : paths) {
    const std::string name = path.filename().string();
    if (name.size() > kMaxNameBytes ||
        !std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7f; })) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: expected a name of at most {} printable ASCII characters",
                        path.string(), kMaxNameBytes);
    }
    US_ASSIGN(std::string text, read_file(path.string()));
    if (run_schema(text).empty()) {
      warn(path.string() + ": no bench run (JSON with a \"schema\"); left out");
      continue;
    }
    runs.push_back({name, std::move(text)});
  }
  if (!runs.empty()) return runs;
  return make_error(ErrorCode::kNotFound,
                    "{}: no bench run in it; make one with 'ultraspeed bench kernels --json FILE'",
                    folder);
}

Result<ReportCheck> pack(const Options& options) {
  US_ASSIGN(const std::vector<TarFile> runs, read_runs(options.folder));
  ReportCheck all;
  for (const TarFile& run : runs) {
    US_ASSIGN(const ReportCheck check, check_run(run.contents, options.folder + "/" + run.name));
    if (!check.difference.empty()) return check;
    all.num_values += check.num_values;
  }
  US_ASSIGN(const std::string archive, make_report(runs, provenance()));
  US_TRY(write_file(options.out, archive));
  US_TRY(write_all(STDOUT_FILENO, fmt::format("{}: {} runs, {} values\n", options.out, runs.size(),
                                              all.num_values)));
  return all;
}

Result<ReportCheck> check(const Options& options) {
  US_ASSIGN(const std::string archive, read_file(options.archive));
  US_ASSIGN(const ReportCheck result, check_report(archive, file_label(options.archive)));
  if (!result.difference.empty()) return result;
  US_TRY(write_all(STDOUT_FILENO,
                   fmt::format("{}: {} runs, all {} values follow from the raw numbers\n",
                               file_label(options.archive), result.num_runs, result.num_values)));
  return result;
}

}  // namespace

void add_report_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App& report = *app.add_subcommand(
      "report", "Pack bench runs into an archive that others can check, or check one");
  report.add_option("DIR", options->folder, "A folder with JSON files of bench runs");
  report.add_option("--out", options->out, "The archive to write, a tar file")->type_name("FILE");
  CLI::App& checking = *report.add_subcommand(
      "check", "Compute an archive's figures again; exit code 3 names the first that is wrong");
  checking.add_option("FILE", options->archive, "The archive")->required();
  checking.callback([options, exit_code] { *exit_code = exit_code_of(check(*options)); });
  report.callback([options, exit_code, &checking] {
    if (checking.parsed()) return;
    if (options->folder.empty()) throw CLI::RequiredError("DIR");
    if (options->out.empty()) throw CLI::RequiredError("--out");
    *exit_code = exit_code_of(pack(*options));
  });
}

}  // namespace ultraspeed::apps
