// `ultraspeed simulate`: tables, JSON, picture, and measured files in place of built-in figures.
#include "apps/simulation.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/files.h"
#include "apps/measured_times.h"
#include "apps/simulate_command.h"
#include "apps/step_run.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using program::Opcode;

const std::string kSourceFolder = US_SOURCE_DIR;

SimulateOptions small_simulation() {
  SimulateOptions options;
  options.config = kSourceFolder + "/models/tiny-mimo";
  options.ranks = {1, 8};
  options.devices = {"h100", "b200"};
  return options;
}

// A ceiling of 3,200 GB/s; qkv takes 10 us beyond its bytes, routers 1.
StepRun measured_step() {
  StepRun run;
  run.made_by = {"0.1.0", "0123456789abcdef", {"ultraspeed", "bench", "step"}};
  run.config = "configs/x";
  run.num_ranks = 8;
  run.bench.gpu.name = "NVIDIA H100 80GB HBM3";
  run.bench.ceiling_bytes = 8'000'000'000;
  run.bench.ceiling_us = {2600, 2500, 2400};
  run.bench.data = "in memory";
  run.bench.step_us = {90, 100, 110};
  run.bench.stages.push_back(
      {"qkv_proj", "64 x 96", Opcode::kQkvProj, 2, 32'000'000, 2, {20, 20, 20}});
  run.bench.stages.push_back({"router", "", Opcode::kLinear, 10, 3'200'000, 10, {2, 2, 2}});
  run.bench.stages.push_back({"reduce", "", Opcode::kReduce, 20, 0, 20, {1.5, 2, 2.5}});
  return run;
}

void expect_refusal(const Result<MeasuredTimes>& times, ErrorCode code, const std::string& part) {
  ASSERT_FALSE(times.has_value()) << part;
  EXPECT_EQ(times.error().code, code) << times.error().message;
  EXPECT_NE(times.error().message.find(part), std::string::npos) << times.error().message;
}

TEST(MeasuredTimes, OfAStepAreWhatIsBeyondItsBytes) {
  const auto times = read_measured_times(step_json(measured_step()), "s.json");
  ASSERT_TRUE(times.has_value()) << times.error().message;
  EXPECT_EQ(times->device, "h100");
  EXPECT_NEAR(times->bandwidth->likely, 3.2e12, 1);
  EXPECT_LT(times->bandwidth->least, times->bandwidth->likely);
  const auto stage_us = [&](Opcode opcode) { return times->stage_us[static_cast<size_t>(opcode)]; };
  EXPECT_NEAR(stage_us(Opcode::kQkvProj)->likely, 10, 1e-9);
  EXPECT_NEAR(stage_us(Opcode::kLinear)->likely, 1, 1e-9);
  EXPECT_NEAR(stage_us(Opcode::kReduce)->least, 1.6, 1e-9);  // p10
  EXPECT_FALSE(stage_us(Opcode::kRoute));
  EXPECT_NEAR(times->in_step->likely, 100.0 / (40 + 20 + 40), 1e-9);

  plan::DeviceTimes h100 = plan::device_times("h100");
  const plan::Estimate route = h100.times.of(Opcode::kRoute);
  use_measured(*times, &h100);
  EXPECT_NEAR(h100.times.of(Opcode::kQkvProj).likely, 10, 1e-9);
  EXPECT_EQ(h100.times.of(Opcode::kRoute).likely, route.likely);
  EXPECT_NE(h100.gpu_source.find("s.json (NVIDIA H100 80GB HBM3)"), std::string::npos);
}

TEST(MeasuredTimes, OfKernelsAreTheCeiling) {
  const std::string file = kSourceFolder + "/tests/data/bench_kernels_h100.json";
  const auto times = read_measured_times(*read_json_file(file), file);
  ASSERT_TRUE(times.has_value()) << times.error().message;
  EXPECT_NEAR(times->bandwidth->likely, 3.128e12, 1e9);
  EXPECT_FALSE(times->in_step);
}

TEST(MeasuredTimes, OfADecodeAreAcceptedLengths) {
  const ordered_json json = ordered_json::parse(R"({
    "schema": "ultraspeed-bench-decode/1", "model": "m", "processor": "p", "results": [
    {"drafter": "none", "block": 8, "streams": 1, "tokens_per_second_of_repeats": [9],
     "cycles": 10, "cycles_by_length": [10]},
    {"drafter": "suffix", "block": 8, "streams": 1, "tokens_per_second_of_repeats": [9],
     "cycles": 4, "cycles_by_length": [1, 0, 0, 0, 0, 0, 0, 3]}]})");
  const auto times = read_measured_times(json, "d.json");
  ASSERT_TRUE(times.has_value()) << times.error().message;
  EXPECT_EQ(times->accepted_lengths, std::vector<double>{25.0 / 4});
  EXPECT_EQ(times->gpu, "");
}

TEST(MeasuredTimes, SayWhatIsWrongWithAFile) {
  expect_refusal(read_measured_times(ordered_json::array(), "f.json"), ErrorCode::kInvalidData,
                 "f.json");
  expect_refusal(read_measured_times({{"schema", "x/1"}}, "f.json"), ErrorCode::kInvalidData,
                 "f.json: schema: expected ultraspeed-bench-step/1");
  expect_refusal(read_measured_times(ordered_json::object(), "f.json"), ErrorCode::kInvalidData,
                 "schema");
  StepRun run = measured_step();
  run.bench.gpu.name = "NVIDIA A100";
  expect_refusal(read_measured_times(step_json(run), "f.json"), ErrorCode::kInvalidData,
                 "gpu.name: expected one of h100, h200, b200, found 'NVIDIA A100'");
  run = measured_step();
  run.all_reduce_ns = 1500;
  expect_refusal(read_measured_times(step_json(run), "f.json"), ErrorCode::kUnsupported,
                 "without --all-reduce-us");
  run = measured_step();
  run.bench.stages[1].general_reason = "K is 2880";
  expect_refusal(read_measured_times(step_json(run), "f.json"), ErrorCode::kUnsupported,
                 "router ran as a general loop (K is 2880)");
  ordered_json json = step_json(measured_step());
  json["stages"][0]["us"] = "fast";
  expect_refusal(read_measured_times(json, "f.json"), ErrorCode::kInvalidData, "stages[0].us");
  json = {{"schema", "ultraspeed-bench-decode/1"},
          {"model", "m"},
          {"processor", "p"},
          {"results", ordered_json::array()}};
  expect_refusal(read_measured_times(json, "d.json"), ErrorCode::kInvalidData,
                 "d.json: results: expected a drafter");
}

TEST(Simulate, HasARowForEveryStep) {
  const auto run = make_simulation(small_simulation());
  ASSERT_TRUE(run.has_value()) << run.error().message;
  ASSERT_EQ(run->steps.size(), 8U);
  EXPECT_EQ(part_table(*run).rows.size(), 8U);
  // One accepted length of a column, three of eight.
  EXPECT_EQ(rate_table(*run).rows.size(), 2U * (2 * 1 + 2 * 3));
  const std::string text = simulation_text(*run);
  EXPECT_NE(text.find("A simulation, not a measurement"), std::string::npos);
  EXPECT_NE(text.find("b200: no run of this project's"), std::string::npos);
  const std::string svg = simulation_svg(*run);
  EXPECT_NE(svg.find("Tokens per second at 5.56 tokens a step"), std::string::npos);

  const ordered_json json = simulation_json(*run);
  ASSERT_EQ(json["steps"].size(), 8U);
  const ordered_json& step = json["steps"][1];
  EXPECT_EQ(step["ranks"], 8);
  EXPECT_EQ(step["width"], 1);
  EXPECT_EQ(step["drafter"], false);
  double sum = 0;
  for (const auto& [name, part] : step["parts_us"].items()) sum += part["mean"].get<double>();
  EXPECT_NEAR(sum, step["step_us"]["mean"].get<double>(), 1e-6);
  EXPECT_EQ(json["steps"][0]["parts_us"]["all-reduce"]["mean"].get<double>() > 0, true);
}

TEST(Simulate, TakesFlagsInPlaceOfFigures) {
  SimulateOptions options = small_simulation();
  options.widths = {8};
  const auto mean = [&options] {
    const auto run = make_simulation(options);
    EXPECT_TRUE(run.has_value()) << run.error().message;
    return run->steps[1].simulation.step_us.mean;
  };
  const double base = mean();
  options.hop_us = {10};
  const double slow = mean();
  EXPECT_GT(slow, base);
  options.link_gb_s = {1};
  EXPECT_GT(mean(), slow);
  options.accepted_lengths = {2};
  options.live_experts = 1000;  // all that a step can choose
  const auto run = make_simulation(options);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->steps[0].live_experts, 32);
  EXPECT_EQ(run->steps[0].accepted_lengths, std::vector<double>{2});
}

TEST(Simulate, ChecksItsFlags) {
  const auto parses = [](const std::string& flags) {
    int exit_code = 0;
    CLI::App app;
    add_simulate_command(app, &exit_code);
    try {
      app.parse("simulate --config no-such-config " + flags);
    } catch (const CLI::ParseError&) {
      return false;
    }
    EXPECT_EQ(exit_code, 1);  // what was parsed names no model
    return true;
  };
  EXPECT_TRUE(parses("--ranks 2,8 --widths 1,4 --accepted 2.5 --hop-us 1,2,3 --json"));
  EXPECT_FALSE(parses("--ranks 3"));
  EXPECT_FALSE(parses("--widths 9"));
  EXPECT_FALSE(parses("--accepted 0.5"));
  EXPECT_FALSE(parses("--hop-us -1"));
  EXPECT_FALSE(parses("--link-gb-s 0"));
}

TEST(Simulate, RefusesWhatDoesNotFit) {
  const auto message = [](const SimulateOptions& options) {
    const auto run = make_simulation(options);
    return run ? std::string() : run.error().message;
  };
  SimulateOptions options = small_simulation();
  options.hop_us = {3, 2, 1};
  EXPECT_NE(message(options).find("--hop-us: expected one number, or the least"),
            std::string::npos);
  options = small_simulation();
  options.devices = {"a100"};
  EXPECT_NE(message(options).find("h100, h200, b200"), std::string::npos);
  options = small_simulation();
  options.widths = {4};
  options.accepted_lengths = {5};
  EXPECT_NE(message(options).find("--widths 4"), std::string::npos);
  options = small_simulation();
  options.devices = {"b200"};
  options.measured_files = {kSourceFolder + "/tests/data/bench_kernels_h100.json"};
  EXPECT_NE(message(options).find("measured on an h100"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::apps
