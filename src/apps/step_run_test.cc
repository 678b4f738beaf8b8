// What follows from the samples of `bench step`: figures, tables, JSON, the picture, and reports.
#include "apps/step_run.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/report_archive.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using program::Opcode;

// The ceiling reads 3,200 GB/s.
StepRun sample_step() {
  StepRun run;
  run.made_by = {"0.1.0", "0123456789abcdef", {"ultraspeed", "bench", "step"}};
  run.config = "configs/x";
  run.num_ranks = 8;
  run.rank = 3;
  run.rows = 5;
  run.live_experts = 60;
  run.positions = 1024;
  run.bench.gpu.name = "NVIDIA H100 80GB HBM3";
  run.bench.ceiling_bytes = 8'000'000'000;
  run.bench.ceiling_us = {2600, 2500, 2400};
  run.bench.data = "70.0 GB of weights in 4.0 GB: layers share 2 sets of 384 experts";
  run.bench.step_us = {1100, 1000, 1000, 900, 1000};
  const auto add = [&run](const char* name, Opcode opcode, uint32_t count, uint64_t bytes,
                          std::vector<double> us) {
    run.bench.stages.push_back({name, "", opcode, count, bytes, count, std::move(us)});
  };
  add("qkv_proj", Opcode::kQkvProj, 2, 32'000'000, {10, 20, 30});
  add("router", Opcode::kLinear, 10, 3'200'000, {2, 2, 3});
  add("reduce", Opcode::kReduce, 20, 0, {3, 3, 3});
  add("lm_head", Opcode::kLinear, 1, 128'000'000, {50, 80, 90});
  run.bench.stages[0].shape = "64 x 96";
  return run;
}

TEST(StepFigures, AddUpTheStagesOfAnOperation) {
  const StepRun run = sample_step();
  const StepFigures figures = step_figures(run);
  ASSERT_EQ(figures.ops.size(), 3u);
  const OpFigures& qkv = figures.ops[0];
  EXPECT_EQ(qkv.opcode, Opcode::kQkvProj);
  EXPECT_EQ(qkv.count, 2u);
  EXPECT_DOUBLE_EQ(qkv.reading.us, 40);
  EXPECT_EQ(qkv.reading.bytes, 64'000'000u);
  EXPECT_DOUBLE_EQ(qkv.reading.gb_s, 1600);
  EXPECT_DOUBLE_EQ(qkv.reading.of_ceiling, 0.5);
  EXPECT_EQ(figures.ops[1].opcode, Opcode::kReduce);
  EXPECT_DOUBLE_EQ(figures.ops[1].reading.us, 60);
  EXPECT_DOUBLE_EQ(figures.ops[1].reading.gb_s, 0);
  const OpFigures& linear = figures.ops[2];
  EXPECT_EQ(linear.count, 11u);
  EXPECT_DOUBLE_EQ(linear.reading.us, 100);
  EXPECT_EQ(linear.reading.bytes, 160'000'000u);
  EXPECT_DOUBLE_EQ(figures.sum_us, 200);
  EXPECT_DOUBLE_EQ(linear.share, 0.5);
  EXPECT_DOUBLE_EQ(figures.us.median, 1000);
  EXPECT_DOUBLE_EQ(figures.us.p90, 1060);
  EXPECT_EQ(figures.reading.bytes, 224'000'000u);
  EXPECT_DOUBLE_EQ(figures.reading.gb_s, 224);
  EXPECT_DOUBLE_EQ(figures.reading.of_ceiling, 0.07);
  EXPECT_DOUBLE_EQ(figures.of_sum, 5);
}

// A step of five rows is not accepted for 5.56 tokens.
TEST(StepFigures, HaveTokensOfNoMoreThanTheRows) {
  StepRun run = sample_step();
  const auto lengths = [&run] {
    std::vector<double> result;
    for (const auto& [length, rate] : step_figures(run).tokens_per_second) {
      EXPECT_DOUBLE_EQ(rate, 1000 * length);
      result.push_back(length);
    }
    return result;
  };
  EXPECT_EQ(lengths(), (std::vector<double>{1, 4.29}));
  run.rows = 8;
  EXPECT_EQ(lengths(), (std::vector<double>{1, 4.29, 5.56, 6.3}));
  run.rows = 1;
  EXPECT_EQ(lengths(), std::vector<double>{1});
}

TEST(StepText, HasARowForEachOperation) {
  EXPECT_EQ(
      step_text(sample_step()),
      "NVIDIA H100 80GB HBM3, 0 multiprocessors, CUDA 0.0 (the driver's 0.0)\n"
      "configs/x, rank 3 of 8, 5 rows in 8 columns, 60 live experts, after 1024 positions, w4a8 "
      "activations\n"
      "this run counts: the drain of 8 GB reads 3200 GB/s, at least 3050\n\n"
      "operation  stages  us a stage      us      MB  GB/s  of ceiling   of sum     p10     p90\n"
      "ceiling                        2500.0  8000.0  3200     100.0 %           2420.0  2580.0\n"
      "QkvProj         2       20.00    40.0    64.0  1600      50.0 %   20.0 %\n"
      "Reduce         20        3.00    60.0     0.0                     30.0 %\n"
      "Linear         11        9.09   100.0   160.0  1600      50.0 %   50.0 %\n"
      "sum                             200.0   224.0  1120      35.0 %  100.0 %\n"
      "step                           1000.0   224.0   224       7.0 %  500.0 %   940.0  1060.0\n"
      "tokens a second by the tokens that a step is accepted for: 1000.0 at 1.00, 4290.0 at 4.29\n"
      "medians of 5 graphs; in memory 70.0 GB of weights in 4.0 GB: layers share 2 sets of 384 "
      "experts\n"
      "an operation's stages are timed by themselves, one behind the other; in the step they "
      "overlap with those of other operations, so that the step is not their sum\n"
      "one rank alone: what it would send to others it writes into its own memory, and it waits "
      "for nobody\n");
}

TEST(StepJson, IsReadBack) {
  StepRun run = sample_step();
  run.activations = program::Activations::kW4a16;
  run.kv_cache = program::KvCacheType::kFp8;
  run.all_reduce_ns = 1500;
  const ordered_json json = step_json(run);
  EXPECT_EQ(json["schema"], "ultraspeed-bench-step/1");
  EXPECT_EQ(json["activations"], "w4a16");
  EXPECT_EQ(json["kv_cache"], "fp8");
  EXPECT_EQ(json["all_reduce_ns"], 1500);
  EXPECT_NE(step_text(run).find("waits 1.5 us in place of what they would send"),
            std::string::npos);
  EXPECT_EQ(json["step"]["of_sum"], 5.0);
  EXPECT_EQ(json["step"]["tokens_per_second"][1]["accepted"], 4.29);
  EXPECT_EQ(json["operations"][2]["operation"], "Linear");
  EXPECT_EQ(json["operations"][2]["share"], 0.5);
  EXPECT_EQ(json["stages"][0]["shape"], "64 x 96");
  EXPECT_EQ(json["stages"][3]["of_ceiling"], 0.5);
  const auto again = read_step_run(json, "a.json");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(step_json(*again), json);
  EXPECT_EQ(step_text(*again), step_text(run));
}

TEST(StepJson, KeepsWhatRunsAsAGeneralLoop) {
  StepRun run = sample_step();
  run.bench.stages[1].general_reason = "256 columns";
  run.bench.stages.push_back(run.bench.stages[1]);
  const std::string text = step_text(run);
  const std::string note = "\nrouter: a general loop, no kernel of its own: 256 columns\n";
  ASSERT_NE(text.find(note), std::string::npos) << text;
  EXPECT_EQ(text.find(note), text.rfind(note)) << "said twice";
  const ordered_json json = step_json(run);
  EXPECT_EQ(json["stages"][1]["general_reason"], "256 columns");
  EXPECT_FALSE(json["stages"][0].contains("general_reason"));
  const auto again = read_step_run(json, "a.json");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(step_json(*again), json);
  EXPECT_EQ(step_text(*again), text);
}

// Where and how each kind of value is refused.
TEST(StepJson, ErrorsNameThePath) {
  const auto error = [](const std::string& pointer, const ordered_json& value) {
    ordered_json json = step_json(sample_step());
    json[ordered_json::json_pointer(pointer)] = value;
    const auto run = read_step_run(json, "a.json");
    EXPECT_FALSE(run) << pointer;
    return run ? "" : run.error().message;
  };
  EXPECT_EQ(error("/config", 7), "a.json: config: expected a string, found number");
  EXPECT_EQ(error("/shape_only", true),
            "a.json: shape_only: measured without part of the arithmetic, by an older version");
  EXPECT_EQ(error("/stages/0/general_reason", 1),
            "a.json: stages[0].general_reason: expected a string, found number");
  EXPECT_EQ(error("/positions", -1),
            "a.json: positions: expected a whole number from 0, found number");
  EXPECT_EQ(error("/activations", "f16"),
            "a.json: activations: expected one of f32, int8, w4a16, w4a8, found 'f16'");
  EXPECT_EQ(error("/kv_cache", "w4a8"),
            "a.json: kv_cache: expected one of f32, bf16, fp8, found 'w4a8'");
  EXPECT_EQ(error("/step/us", ordered_json::array()),
            "a.json: step.us: expected an array of numbers from 0.001 to 10^12");
  EXPECT_EQ(error("/stages", ordered_json::array()), "a.json: stages: expected one or more");
  EXPECT_EQ(error("/stages/1/count", 0U), "a.json: stages[1].count: expected more than 0");
  EXPECT_TRUE(error("/stages/0/operation", "Matmul")
                  .starts_with("a.json: stages[0].operation: expected one of Embed, QkvProj, "));
  EXPECT_EQ(error("/ceiling/bytes", 0U), "a.json: ceiling.bytes: expected more than 0");
}

TEST(StepJson, IsCheckedByReports) {
  ordered_json json = step_json(sample_step());
  const auto difference = [&json] {
    const auto check = check_run(json.dump(), "a.json");
    return check ? check->difference : "error: " + check.error().message;
  };
  EXPECT_EQ(difference(), "");
  const auto report = make_report({{"step.json", json.dump()}}, {"0.1.0", "d", {"ultraspeed"}});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_NE(report->find("| QkvProj | 2 | 20.00 | 40.0 | 64.0 | 1600 | 50.0 % |"),
            std::string::npos);
  EXPECT_NE(report->find("\"counts\": true"), std::string::npos);
  const auto check = check_report(*report, "r.tar");
  ASSERT_TRUE(check) << check.error().message;
  EXPECT_EQ(check->difference, "");
  json["operations"][0]["us"] = 39.0;
  EXPECT_EQ(difference(), "a.json: operations[0].us is 39.0; from the raw numbers it is 40.0");
  json["operations"][0]["us"] = 40.0;
  json["step"]["tokens_per_second"][0]["rate"] = 1001;
  EXPECT_EQ(difference(),
            "a.json: step.tokens_per_second[0].rate is 1001; from the raw numbers it is 1000.0");
}

// Two phases, of a CTA that streams and one with units; 224 MB are 70 us at the ceiling.
StepRun resident_step() {
  StepRun run = sample_step();
  run.bench.stages.push_back({"attention", "", Opcode::kAttention, 2, 0, 2, {1, 1, 1}});
  cuda::PhaseBench& bench = run.bench.resident.emplace();
  bench.ctas = {.streaming = 1, .of_units = 1, .of_stages = 0};
  bench.resident_us = {100};
  bench.graph_us = {110};
  bench.rows = {{"rows", 1, 4.5, 1.25, 3, 1.5}, {"qkv", 1, 8, 1, 7, 2.5}};
  bench.tasks = {{0, 0, 1, 0, 4500}, {1, 1, 0, 5500, 12500}};
  return run;
}

TEST(StepResident, SaysHowLongMemoryIdles) {
  const std::string text = resident_text(resident_step());
  EXPECT_NE(text.find("100.0 us a step; a graph of the same stages 110.0 us, 1.100 times"),
            std::string::npos);
  EXPECT_NE(text.find("70.0 % of the ceiling: memory idles for 30.0 us of a step, 15.0 us a layer"),
            std::string::npos);
  EXPECT_NE(text.find("10000.0 at 1.00, 42900.0 at 4.29"), std::string::npos);
  StepRun partial = resident_step();
  partial.bench.resident->left_out = {"a reason"};
  EXPECT_EQ(resident_text(partial).find("of the ceiling"), std::string::npos);
}

TEST(StepResident, TracesEveryTask) {
  const auto json = ordered_json::parse(resident_trace(*resident_step().bench.resident));
  uint32_t tasks = 0, names = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "M") {
      ++names;
      continue;
    }
    EXPECT_EQ(event["name"], tasks == 0 ? "rows" : "qkv");
    EXPECT_EQ(event["pid"], tasks == 0 ? 1 : 0);
    EXPECT_EQ(event["ts"], tasks == 0 ? 0 : 5.5);
    EXPECT_EQ(event["dur"], tasks == 0 ? 4.5 : 7);
    ++tasks;
  }
  EXPECT_EQ(tasks, 2u);
  EXPECT_EQ(names, 5u);  // three kernels, two CTAs
}

TEST(StepPlot, HasBarsForTheStepAndEachOperation) {
  const std::string svg = step_svg(sample_step());
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_NE(svg.find(">step<"), std::string::npos) << svg;
  EXPECT_NE(svg.find(">QkvProj<"), std::string::npos) << svg;
  EXPECT_NE(svg.find(">40<"), std::string::npos) << svg;  // measured
  EXPECT_NE(svg.find(">20<"), std::string::npos) << svg;  // at the ceiling
  EXPECT_NE(svg.find(">70<"), std::string::npos) << svg;  // the step at the ceiling
}

}  // namespace
}  // namespace ultraspeed::apps
