// Reports: packed, checked, and every kind of change found and named.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/bench_result.h"
#include "apps/decode_run.h"
#include "apps/figure_check.h"
#include "apps/kernel_run.h"
#include "apps/report_archive.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr char kDecodeRun[] = R"({
  "schema": "ultraspeed-bench-decode/1", "version": "0.1.0", "commit": "c",
  "command": ["u", "it's"],
  "model": "models/x", "processor": "a processor", "threads": 2,
  "results": [
    {"drafter": "none", "block": 8, "streams": 2, "tokens_per_second": 100,
     "tokens_per_second_per_stream": 50, "tokens_per_second_of_repeats": [90, 100, 110],
     "speedup": 1, "cycles": 4, "accepted_length": 1, "cycles_by_length": [4]},
    {"drafter": "suffix", "block": 8, "streams": 2, "tokens_per_second": 150,
     "tokens_per_second_per_stream": 75, "tokens_per_second_of_repeats": [180, 150, 110],
     "speedup": 1.5, "cycles": 4, "accepted_length": 1.75, "cycles_by_length": [2, 1, 1]}]})";

ordered_json kernel_run_json() {
  KernelRun run;
  run.made_by = {"0.1.0", "c", {"ultraspeed", "bench"}};
  run.config = "configs/x";
  run.bench.gpu.name = "NVIDIA H100 80GB HBM3";
  run.bench.ceiling_bytes = 8'000'000'000;
  run.bench.ceiling_us = {2600, 2500, 2400};
  cuda::KernelSamples kernel;
  kernel.name = "expert down";
  kernel.shape = "a | shape";
  kernel.data = "two experts";
  kernel.bytes = 48'000'000;
  kernel.num_nodes = 24;
  kernel.us = {20, 21, 19};
  kernel.drain_us = {18, 18, 18};
  run.bench.kernels.push_back(kernel);
  return kernel_json(run);
}

std::vector<TarFile> runs() {
  return {{"decode.json", kDecodeRun}, {"kernels.json", kernel_run_json().dump(1)}};
}

std::vector<TarFile> report_files() {
  const auto archive = make_report(runs(), {"0.1.0", "d", {"ultraspeed", "report", "x y"}});
  EXPECT_TRUE(archive) << archive.error().message;
  return read_tar(*archive, "r.tar").value();
}

// What check_report() finds after `change` of the contents of `name`.
template <class Change>
std::string difference(const std::string& name, const Change& change) {
  std::vector<TarFile> files = report_files();
  const auto file = std::ranges::find(files, name, &TarFile::name);
  EXPECT_NE(file, files.end()) << name;
  change(&file->contents);
  const auto check = check_report(write_tar(files), "r.tar");
  return check ? check->difference : "error: " + check.error().message;
}

// After a JSON value in it is replaced.
std::string difference(const std::string& name, const std::string& pointer,
                       const ordered_json& value) {
  return difference(name, [&](std::string* text) {
    ordered_json json = ordered_json::parse(*text);
    json[ordered_json::json_pointer(pointer)] = value;
    *text = json.dump();
  });
}

TEST(Report, IsCheckedAgain) {
  const std::vector<TarFile> files = report_files();
  ASSERT_EQ(files.size(), 5u);
  EXPECT_EQ(files[0].name, "report.json");
  EXPECT_EQ(files[1].name, "summary.txt");
  EXPECT_EQ(files[2].name, "summary.md");
  EXPECT_EQ(files[3].name, "runs/decode.json");
  EXPECT_EQ(files[3].contents, kDecodeRun);
  const auto check = check_report(write_tar(files), "r.tar");
  ASSERT_TRUE(check) << check.error().message;
  EXPECT_EQ(check->difference, "");
  EXPECT_EQ(check->num_runs, 2u);
  EXPECT_GT(check->num_values, 60u);
}

TEST(Report, SummarisesItsRuns) {
  const std::vector<TarFile> files = report_files();
  const ordered_json manifest = ordered_json::parse(files[0].contents);
  EXPECT_EQ(manifest["runs"][1]["counts"], true);
  EXPECT_FALSE(manifest["runs"][0].contains("counts"));
  EXPECT_EQ(manifest["runs"][0]["device"], "a processor");
  for (const std::string piece :
       {"runs/decode.json\na processor\nultraspeed 0.1.0, commit c\nu 'it'\\''s'\n",
        "suffix         2      8     150.0        75.0      1.50      1.75\n",
        "this run counts: the drain of 8 GB reads 3200 GB/s, at least 3050\n"}) {
    EXPECT_NE(files[1].contents.find(piece), std::string::npos) << piece << files[1].contents;
  }
  for (const std::string piece : {"## runs/kernels.json\n", "    ultraspeed bench\n",
                                  "| expert down | a \\| shape | 20.00 | 19.20 | 20.80 | 18.00 | "
                                  "48.0 | 2400 | 90.0 % | 75.0 % "
                                  "|\n"}) {
    EXPECT_NE(files[2].contents.find(piece), std::string::npos) << piece << files[2].contents;
  }
}

TEST(Report, NamesTheFigureThatDoesNotFollow) {
  const std::string kernels = "runs/kernels.json";
  EXPECT_EQ(difference(kernels, "/kernels/0/gb_s", 2500),
            "runs/kernels.json: kernels[0].gb_s is 2500; from the raw numbers it is 2400.0");
  EXPECT_EQ(difference(kernels, "/kernels/0/of_ceiling", 0.7501),
            "runs/kernels.json: kernels[0].of_ceiling is 0.7501; from the raw numbers it is 0.75");
  EXPECT_EQ(
      difference(kernels, "/kernels/0/drain_p90_us", "18"),
      "runs/kernels.json: kernels[0].drain_p90_us is \"18\"; from the raw numbers it is 18.0");
  EXPECT_EQ(difference(kernels, "/ceiling/counts", false),
            "runs/kernels.json: ceiling.counts is false; from the raw numbers it is true");
  // A raw number that changes takes its figures along.
  EXPECT_EQ(difference(kernels, "/ceiling/us/1", 2400),
            "runs/kernels.json: ceiling.median_us is 2500.0; from the raw numbers it is 2400.0");
  EXPECT_EQ(difference(kernels, "/kernels/0/best_us", 1),
            "runs/kernels.json: kernels[0].best_us does not belong there");
  EXPECT_EQ(difference(kernels,
                       [](std::string* text) {
                         ordered_json json = ordered_json::parse(*text);
                         json["kernels"][0].erase("of_drain");
                         *text = json.dump();
                       }),
            "runs/kernels.json: kernels[0].of_drain is missing; from the raw numbers it is 0.9");
  const std::string decode = "runs/decode.json";
  EXPECT_EQ(difference(decode, "/results/1/speedup", 2),
            "runs/decode.json: results[1].speedup is 2; from the raw numbers it is 1.5");
  EXPECT_EQ(difference(decode, "/results/1/accepted_length", 2),
            "runs/decode.json: results[1].accepted_length is 2; from the raw numbers it is 1.75");
  EXPECT_EQ(difference(decode, "/results/0/tokens_per_second_of_repeats/1", 105),
            "runs/decode.json: results[0].tokens_per_second is 100; from the raw numbers it is "
            "105.0");
  EXPECT_EQ(difference(decode, "/results/0/tokens_per_second_per_stream", 51),
            "runs/decode.json: results[0].tokens_per_second_per_stream is 51; from the raw numbers "
            "it is 50.0");
}

TEST(Report, NamesWhatTheSummaryHasWrong) {
  EXPECT_EQ(difference("report.json", "/runs/1/counts", false),
            "report.json: runs[1].counts is false; from the raw numbers it is true");
  EXPECT_EQ(difference("report.json", "/runs/0/device", "a faster one"),
            "report.json: runs[0].device is \"a faster one\"; from the raw numbers it is \"a "
            "processor\"");
  EXPECT_TRUE(difference("summary.md", [](std::string* text) {
                text->replace(text->find("2400"), 4, "2500");
              }).starts_with("summary.md, line 27 is \"| expert down |"));
  EXPECT_EQ(difference("summary.txt", [](std::string* text) { *text += "more\n"; }),
            "summary.txt, line 23 is \"more\"; from the raw numbers it is \"\"");
  std::vector<TarFile> files = report_files();
  files.push_back({"extra", ""});
  EXPECT_EQ(check_report(write_tar(files), "r.tar")->difference, "extra does not belong there");
  files = report_files();
  files.erase(files.begin() + 1);
  EXPECT_EQ(check_report(write_tar(files), "r.tar")->difference, "summary.txt is missing");
}

TEST(Report, RefusesWhatIsNone) {
  const auto error = [](const std::vector<TarFile>& files) {
    const auto check = check_report(write_tar(files), "r.tar");
    EXPECT_FALSE(check);
    return check ? "" : check.error().message;
  };
  EXPECT_EQ(error({}), "r.tar: no report.json in it; expected a report");
  EXPECT_EQ(error({{"report.json", "[1"}}),
            "r.tar: report.json: not valid JSON: parse error at line 1, column 3: syntax error "
            "while parsing array - unexpected end of input; expected ']'");
  EXPECT_EQ(error({{"report.json", R"({"schema": "x"})"}}),
            "r.tar: report.json: schema 'x'; expected ultraspeed-report/1");
  std::vector<TarFile> files = report_files();
  files.resize(3);
  EXPECT_EQ(error(files), "r.tar: no runs in it");
  EXPECT_EQ(difference("runs/decode.json", [](std::string* text) { *text = "{}"; }),
            "error: runs/decode.json: no 'schema'; expected a string");
  EXPECT_EQ(difference("runs/decode.json", "/schema", "y"),
            "error: runs/decode.json: schema 'y'; expected ultraspeed-bench-kernels/1, "
            "ultraspeed-bench-step/1 or ultraspeed-bench-decode/1");
  EXPECT_EQ(difference("runs/decode.json", "/results/0/streams", 0),
            "error: runs/decode.json: results[0].streams: expected 1 or more");
  EXPECT_EQ(
      difference("runs/decode.json", "/results/1/tokens_per_second_of_repeats", {1, 2}),
      "error: runs/decode.json: results[1].tokens_per_second_of_repeats: 2 repeats, the first "
      "drafter has 3");
  EXPECT_EQ(difference("runs/decode.json", "/results/1/cycles_by_length", {1, -2}),
            "error: runs/decode.json: results[1].cycles_by_length: expected an array of whole "
            "numbers below 2^53");
}

TEST(FigureCheck, AllowsRoundingAlone) {
  const auto differs = [](double given, double computed) {
    return !check_figures({{"a", given}}, {{"a", computed}}).difference.empty();
  };
  EXPECT_FALSE(differs(1.0, 1.0 + 1e-10));
  EXPECT_TRUE(differs(1.0, 1.0 + 1e-8));
  EXPECT_FALSE(differs(0, 0));
  EXPECT_TRUE(differs(0, 1e-12));
  EXPECT_EQ(check_figures({1, 2}, ordered_json::array({1})).difference,
            " is [1,2]; from the raw numbers it is [1]");
}

// bench_json() of `bench decode` is what the report reads.
TEST(DecodeRun, FollowsFromWhatBenchDecodePrints) {
  BenchReport report;
  report.made_by = {"0.1.0", "c", {"u"}};
  report.model = "m";
  report.processor = "p";
  report.prompts.resize(1);
  for (const char* drafter : {"none", "suffix"}) {
    BenchResult result{.drafter = drafter, .block = 4, .streams = 1, .passes = {}};
    for (const double seconds : {2.0, 1.0, 4.0}) {
      DecodePass pass;
      pass.rate.num_tokens = drafter[0] == 'n' ? 10 : 15;
      pass.rate.seconds = seconds;
      pass.prompt_rates = {pass.rate};
      pass.texts.resize(1);
      pass.times.num_steps = 5;
      for (const uint32_t tokens : {1U, 3U, 1U}) {
        pass.speculation.add({.num_drafts = 3, .num_accepted = tokens - 1, .num_tokens = tokens});
      }
      pass.prompt_speculation = {pass.speculation};
      result.passes.push_back(pass);
    }
    report.results.push_back(result);
  }
  const auto check = check_run(bench_json(report), "d.json");
  ASSERT_TRUE(check) << check.error().message;
  EXPECT_EQ(check->difference, "");
  EXPECT_EQ(run_schema(bench_json(report)), kDecodeRunSchema);
  EXPECT_EQ(run_schema("{\"schema\": 3}"), "");
  EXPECT_EQ(run_schema("{"), "");
}

}  // namespace
}  // namespace ultraspeed::apps
