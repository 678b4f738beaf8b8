#include "apps/report_archive.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/bench_result.h"
#include "apps/decode_run.h"
#include "apps/figure_check.h"
#include "apps/files.h"
#include "apps/kernel_run.h"
#include "apps/step_run.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr char kSchema[] = "ultraspeed-report/1";
constexpr char kManifest[] = "report.json";
constexpr char kRunsFolder[] = "runs/";

// A run with its figures computed anew, and how it is summarised.
struct Run {
  ordered_json given, computed;
  std::string device;
  Provenance made_by;
  std::optional<bool> counts;      // on a GPU alone
  std::vector<std::string> lines;  // what a table needs beside it
  TextTable table;
};

Status read_kernels(const std::string& label, Run* run) {
  US_ASSIGN(const KernelRun kernels, read_kernel_run(run->given, label));
  run->computed = kernel_json(kernels);
  run->device = describe_gpu(kernels.bench.gpu);
  run->made_by = kernels.made_by;
  run->counts = ceiling_figures(kernels.bench).counts;
  run->lines = {describe_shape(kernels), verdict(kernels.bench)};
  for (const std::string& note : kernel_notes(kernels.bench)) run->lines.push_back(note);
  run->table = kernel_table(kernels.bench);
  return {};
}

Status read_step(const std::string& label, Run* run) {
  US_ASSIGN(const StepRun step, read_step_run(run->given, label));
  run->computed = step_json(step);
  run->device = describe_gpu(step.bench.gpu);
  run->made_by = step.made_by;
  run->counts = ceiling_figures(step.bench).counts;
  run->lines = {describe_step(step), verdict(step.bench)};
  for (const std::string& note : step_notes(step)) run->lines.push_back(note);
  run->table = step_table(step);
  return {};
}

Status read_decode(const std::string& label, Run* run) {
  US_ASSIGN(run->computed, compute_decode_figures(run->given, label));
  US_ASSIGN(const JsonObject top, JsonObject::of(run->given, label));
  US_ASSIGN(run->device, top.text("processor"));
  US_ASSIGN(run->made_by, read_provenance(top));
  US_ASSIGN(const std::string model, top.text("model"));
  run->lines = {model};
  run->table = decode_table(run->computed);
  return {};
}

Result<Run> read_run(const std::string& text, const std::string& label) {
  Run run;
  auto json = parse_json(text, label);
  if (!json) return make_error(ErrorCode::kInvalidData, "{}", json.error().message);
  run.given = std::move(*json);
  US_ASSIGN(const JsonObject top, JsonObject::of(run.given, label));
  US_ASSIGN(const std::string schema, top.text("schema"));
  if (schema == kKernelRunSchema) {
    US_TRY(read_kernels(label, &run));
  } else if (schema == kStepRunSchema) {
    US_TRY(read_step(label, &run));
  } else if (schema == kDecodeRunSchema) {
    US_TRY(read_decode(label, &run));
  } else {
    return make_error(ErrorCode::kInvalidData, "{}: schema '{}'; expected {}, {} or {}", label,
                      schema, kKernelRunSchema, kStepRunSchema, kDecodeRunSchema);
  }
  return run;
}

// As a shell would take it; what needs no quotes has none.
std::string shell_line(const std::vector<std::string>& command) {
  std::string line;
  for (const std::string& word : command) {
    const bool is_plain = !word.empty() && word.find_first_not_of(
                                               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"
                                               "YZ0123456789_-./:,=+@%") == std::string::npos;
    if (!line.empty()) line += ' ';
    if (is_plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

// The facts above a table.
std::vector<std::string> heading(const Run& run) {
  std::vector<std::string> lines = {
      run.device, fmt::format("ultraspeed {}, commit {}", run.made_by.version, run.made_by.commit),
      shell_line(run.made_by.command)};
  lines.insert(lines.end(), run.lines.begin(), run.lines.end());
  return lines;
}

std::string plain_summary(const std::string& name, const Run& run) {
  std::string text = name + "\n";
  for (const std::string& line : heading(run)) text += line + "\n";
  return text + "\n" + plain_table(run.table) + "\n";
}

std::string markdown_summary(const std::string& name, const Run& run) {
  std::string text = fmt::format("## {}\n\n", name);
  // Indented: text of others must not be read as markup.
  for (const std::string& line : heading(run)) text += "    " + line + "\n";
  return text + "\n" + markdown_table(run.table) + "\n";
}

// All files of a report but the runs, which come first.
Result<std::vector<TarFile>> report_files(const std::vector<TarFile>& runs,
                                          const Provenance& made_by) {
  ordered_json manifest = {{"schema", kSchema},
                           {"version", made_by.version},
                           {"commit", made_by.commit},
                           {"command", made_by.command},
                           {"runs", ordered_json::array()}};
  std::string plain;
  std::string markdown = "# Speed, measured by ultraspeed\n\n";
  for (const TarFile& file : runs) {
    US_ASSIGN(const Run run, read_run(file.contents, file.name));
    ordered_json entry = {{"file", file.name},
                          {"schema", run.given["schema"]},
                          {"device", run.device},
                          {"version", run.made_by.version},
                          {"commit", run.made_by.commit},
                          {"command", run.made_by.command}};
    if (run.counts) entry["counts"] = *run.counts;
    manifest["runs"].push_back(std::move(entry));
    plain += plain_summary(file.name, run);
    markdown += markdown_summary(file.name, run);
  }
  return std::vector<TarFile>{
      {kManifest, manifest.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n"},
      {"summary.txt", std::move(plain)},
      {"summary.md", std::move(markdown)}};
}

// The first line that differs, as a sentence.
std::string text_difference(const TarFile& given, const TarFile& computed) {
  size_t line = 1;
  size_t begin = 0;
  const std::string& a = given.contents;
  const std::string& b = computed.contents;
  for (size_t i = 0; i < a.size() && i < b.size() && a[i] == b[i]; ++i) {
    if (a[i] != '\n') continue;
    ++line;
    begin = i + 1;
  }
  const auto line_of = [begin](const std::string& text) {
    const std::string rest = text.substr(std::min(begin, text.size()));
    return ordered_json(rest.substr(0, rest.find('\n')))
        .dump(-1, ' ', true, ordered_json::error_handler_t::replace);
  };
  return fmt::format("{}, line {} is {}; from the raw numbers it is {}", given.name, line,
                     line_of(a), line_of(b));
}

const TarFile* find_file(const std::vector<TarFile>& files, std::string_view name) {
  const auto found = std::ranges::find(files, name, &TarFile::name);
  return found == files.end() ? nullptr : &*found;
}

Result<Provenance> read_manifest(const std::vector<TarFile>& files, const std::string& label,
                                 ordered_json* manifest) {
  const TarFile* file = find_file(files, kManifest);
  if (file == nullptr) {
    return make_error(ErrorCode::kInvalidData, "{}: no {} in it; expected a report", label,
                      kManifest);
  }
  const std::string where = fmt::format("{}: {}", label, kManifest);
  auto json = parse_json(file->contents, where);
  if (!json) return make_error(ErrorCode::kInvalidData, "{}", json.error().message);
  *manifest = std::move(*json);
  US_ASSIGN(const JsonObject top, JsonObject::of(*manifest, where));
  US_ASSIGN(const std::string schema, top.text("schema"));
  if (schema == kSchema) return read_provenance(top);
  return make_error(ErrorCode::kInvalidData, "{}: schema '{}'; expected {}", where, schema,
                    kSchema);
}

}  // namespace

std::string run_schema(const std::string& text) {
  const auto json = ordered_json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("schema") || !json["schema"].is_string()) return "";
  return json["schema"].get<std::string>();
}

Result<ReportCheck> check_run(const std::string& text, const std::string& label) {
  US_ASSIGN(const Run run, read_run(text, label));
  FigureCheck figures = check_figures(run.given, run.computed);
  ReportCheck check{.num_runs = 1, .num_values = figures.num_values, .difference = {}};
  if (!figures.difference.empty()) {
    check.difference = fmt::format("{}: {}", label, figures.difference);
  }
  return check;
}

Result<std::string> make_report(const std::vector<TarFile>& runs, const Provenance& made_by) {
  std::vector<TarFile> files = runs;
  for (TarFile& file : files) file.name = kRunsFolder + file.name;
  US_ASSIGN(std::vector<TarFile> others, report_files(files, made_by));
  others.insert(others.end(), std::make_move_iterator(files.begin()),
                std::make_move_iterator(files.end()));
  return write_tar(others);
}

Result<ReportCheck> check_report(std::string_view archive, const std::string& label) {
  US_ASSIGN(const std::vector<TarFile> files, read_tar(archive, label));
  ordered_json manifest;
  US_ASSIGN(const Provenance made_by, read_manifest(files, label, &manifest));
  ReportCheck check;
  std::vector<TarFile> runs;
  for (const TarFile& file : files) {
    if (!file.name.starts_with(kRunsFolder)) continue;
    US_ASSIGN(const ReportCheck run, check_run(file.contents, file.name));
    if (!run.difference.empty()) return run;
    ++check.num_runs;
    check.num_values += run.num_values;
    runs.push_back(file);
  }
  if (runs.empty()) return make_error(ErrorCode::kInvalidData, "{}: no runs in it", label);
  US_ASSIGN(const std::vector<TarFile> computed, report_files(runs, made_by));
  const FigureCheck in_manifest =
      check_figures(manifest, ordered_json::parse(computed[0].contents));
  check.num_values += in_manifest.num_values;
  if (!in_manifest.difference.empty()) {
    check.difference = fmt::format("{}: {}", kManifest, in_manifest.difference);
    return check;
  }
  for (const TarFile& file : computed) {
    const TarFile* given = find_file(files, file.name);
    if (given == nullptr) {
      check.difference = fmt::format("{} is missing", file.name);
    } else if (file.name != kManifest && given->contents != file.contents) {
      check.difference = text_difference(*given, file);
    }
    if (!check.difference.empty()) return check;
  }
  for (const TarFile& file : files) {
    const bool is_known = file.name.starts_with(kRunsFolder) || find_file(computed, file.name);
    if (!is_known) check.difference = fmt::format("{} does not belong there", file.name);
  }
  return check;
}

}  // namespace ultraspeed::apps
