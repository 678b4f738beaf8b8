// What follows from the samples of `bench kernels`: figures, verdict, tables, JSON and the picture.
#include "apps/kernel_run.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

// 8 GB/us-like round numbers: the ceiling reads 3,200 GB/s.
KernelRun sample_run() {
  KernelRun run;
  run.made_by = {"0.1.0", "0123456789abcdef", {"ultraspeed", "bench", "kernels"}};
  run.config = "configs/x";
  run.num_ranks = 8;
  run.rank = 3;
  run.live_experts = 60;
  run.dense_dtype = model::DenseDtype::kFp8;
  run.bench.gpu.name = "NVIDIA H100 80GB HBM3";
  run.bench.gpu.num_multiprocessors = 132;
  run.bench.gpu.cuda_driver = 13010;
  run.bench.gpu.cuda_runtime = 13000;
  run.bench.gpu.driver = "580.1";
  run.bench.gpu.clocks = {1980, 2619, 1980, 2619};
  run.bench.ceiling_bytes = 8'000'000'000;
  run.bench.ceiling_us = {2600, 2500, 2400};
  cuda::KernelSamples kernel;
  kernel.name = "expert down";
  kernel.shape = "60 live of 6144 x 256";
  kernel.data = "420 experts in 7 sets";
  kernel.bytes = 48'000'000;
  kernel.num_nodes = 28;
  kernel.us = {20, 21, 19, 30, 20};
  kernel.drain_us = {18, 18, 18, 17, 19};
  run.bench.kernels.push_back(kernel);
  kernel = {};
  kernel.name = "expert gate/up";
  kernel.shape = "60 live of 512 x 1000";
  kernel.refusal = "too odd";
  run.bench.kernels.push_back(kernel);
  return run;
}

TEST(KernelFigures, FollowFromTheSamples) {
  const KernelRun run = sample_run();
  const CeilingFigures ceiling = ceiling_figures(run.bench);
  EXPECT_DOUBLE_EQ(ceiling.us.median, 2500);
  EXPECT_DOUBLE_EQ(ceiling.us.p10, 2420);
  EXPECT_DOUBLE_EQ(ceiling.us.p90, 2580);
  EXPECT_DOUBLE_EQ(ceiling.gb_s, 3200);
  EXPECT_DOUBLE_EQ(ceiling.least_gb_s, 3050);
  EXPECT_TRUE(ceiling.counts);
  const KernelFigures figures = kernel_figures(run.bench.kernels[0], run.bench);
  EXPECT_DOUBLE_EQ(figures.us.median, 20);
  EXPECT_DOUBLE_EQ(figures.us.p10, 19.4);
  EXPECT_DOUBLE_EQ(figures.us.p90, 26.4);
  EXPECT_DOUBLE_EQ(figures.drain_us.median, 18);
  EXPECT_DOUBLE_EQ(figures.gb_s, 2400);
  EXPECT_DOUBLE_EQ(figures.of_drain, 0.9);
  EXPECT_DOUBLE_EQ(figures.of_ceiling, 0.75);
  EXPECT_DOUBLE_EQ(spread_of({7}).p90, 7);
}

// A prefill kernel beside the others: 4.8 GB by 3,200 GB/s are 1,500 us, 3 TFLOP by 1,500 are
// 2,000.
KernelRun run_with_floor(uint64_t flop) {
  KernelRun run = sample_run();
  run.bench.peak =
      cuda::MatrixPeak{.refusal = "", .flop = 3'000'000'000'000, .us = {2100, 2000, 1900}};
  cuda::KernelSamples kernel = run.bench.kernels[0];
  kernel.name = "prefill down";
  kernel.bytes = 4'800'000'000;
  kernel.flop = flop;
  kernel.us = {4000, 4000, 4000};
  run.bench.kernels.push_back(kernel);
  return run;
}

TEST(KernelFigures, AFloorIsOfBytesOrOfFlop) {
  const KernelRun by_flop = run_with_floor(3'000'000'000'000);
  EXPECT_DOUBLE_EQ(peak_figures(*by_flop.bench.peak).tflop_s, 1500);
  EXPECT_FALSE(kernel_figures(by_flop.bench.kernels[0], by_flop.bench).floor);
  auto floor = kernel_figures(by_flop.bench.kernels[2], by_flop.bench).floor;
  ASSERT_TRUE(floor);
  EXPECT_DOUBLE_EQ(floor->tflop_s, 750);
  EXPECT_DOUBLE_EQ(floor->of_peak, 0.5);
  EXPECT_DOUBLE_EQ(floor->floor_us, 2000);
  EXPECT_DOUBLE_EQ(floor->of_floor, 0.5);
  const KernelRun by_bytes = run_with_floor(1'500'000'000'000);
  floor = kernel_figures(by_bytes.bench.kernels[2], by_bytes.bench).floor;
  EXPECT_DOUBLE_EQ(floor->floor_us, 1500);
  EXPECT_DOUBLE_EQ(floor->of_peak, 0.25);
  KernelRun without = by_flop;
  without.bench.peak = cuda::MatrixPeak{.refusal = "nothing multiplies", .flop = 0, .us = {}};
  floor = kernel_figures(without.bench.kernels[2], without.bench).floor;
  EXPECT_DOUBLE_EQ(floor->floor_us, 1500);
  EXPECT_DOUBLE_EQ(floor->of_peak, 0);
  EXPECT_DOUBLE_EQ(floor->of_floor, 0.375);
}

TEST(KernelFigures, ARunCountsIfTheCeilingIsTheCards) {
  KernelRun run = sample_run();
  EXPECT_EQ(verdict(run.bench),
            "this run counts: the drain of 8 GB reads 3200 GB/s, at least 3050");
  run.bench.ceiling_us = {2622.96};  // 3049.99 GB/s
  EXPECT_FALSE(ceiling_figures(run.bench).counts);
  EXPECT_EQ(verdict(run.bench),
            "this run DOES NOT COUNT: the drain of 8 GB reads 3050 GB/s, and such a card reads "
            "3050 or more; does something else use the GPU, or is it throttled?");
  run.bench.ceiling_us = {2622.95};
  EXPECT_TRUE(ceiling_figures(run.bench).counts);
  run.bench.gpu.name = "NVIDIA H200";
  EXPECT_FALSE(ceiling_figures(run.bench).counts);
  EXPECT_DOUBLE_EQ(ceiling_figures(run.bench).least_gb_s, 4300);
  run.bench.ceiling_us = {1860};  // 4301 GB/s
  EXPECT_TRUE(ceiling_figures(run.bench).counts);
  run.bench.gpu.name = "NVIDIA GH900";
  EXPECT_FALSE(ceiling_figures(run.bench).counts);
  EXPECT_NE(verdict(run.bench).find("what a NVIDIA GH900 should read is not known"),
            std::string::npos);
}

TEST(KernelText, SaysWhatWasMeasuredAndWhatWasNot) {
  const std::string text = kernel_text(sample_run());
  EXPECT_EQ(text,
            "NVIDIA H100 80GB HBM3, 132 multiprocessors, CUDA 13.0 (the driver's 13.1), driver "
            "580.1, 1980 of 1980 MHz, memory 2619 of 2619 MHz\n"
            "configs/x, rank 3 of 8, 8 rows in 8 columns, 60 live experts, fp8 dense weights\n"
            "this run counts: the drain of 8 GB reads 3200 GB/s, at least 3050\n\n"
            "kernel          shape                       us      p10      p90  drain us      MB  "
            "GB/s  of drain  of ceiling\n"
            "ceiling         drain, one launch      2500.00  2420.00  2580.00            8000.0  "
            "3200               100.0 %\n"
            "expert down     60 live of 6144 x 256    20.00    19.40    26.40     18.00    48.0  "
            "2400    90.0 %      75.0 %\n"
            "expert gate/up  60 live of 512 x 1000  not measured: too odd\n"
            "28 launches a graph, medians of 5 graphs; in memory 420 experts in 7 sets, one set a "
            "launch\n");
  KernelRun none = sample_run();
  none.bench.kernels.clear();
  EXPECT_NE(kernel_text(none).find("no kernel of this program fits this model\n"),
            std::string::npos);
}

TEST(KernelText, HasFloorsWhereThereIsFlop) {
  KernelRun run = run_with_floor(3'000'000'000'000);
  const std::string text = kernel_text(run);
  EXPECT_NE(text.find("of ceiling  TFLOP/s  floor us  of floor\n"), std::string::npos) << text;
  EXPECT_NE(text.find("37.5 %    750.0    2000.0    50.0 %\n"), std::string::npos) << text;
  EXPECT_NE(text.find("FLOP by the 1500 TFLOP/s that cuBLASLt reaches"), std::string::npos) << text;
  run.bench.peak->refusal = "nothing multiplies";
  EXPECT_NE(kernel_text(run).find("\nfloor: bytes by the ceiling alone, as nothing multiplies\n"),
            std::string::npos);
}

TEST(KernelText, IsATableInMarkdown) {
  TextTable table = kernel_table(sample_run().bench);
  table.rows[1][0] = "a|b";
  const std::string text = markdown_table(table);
  EXPECT_TRUE(text.starts_with("| kernel | shape | us |")) << text;
  EXPECT_NE(text.find("\n|---|---|---:|---:|"), std::string::npos) << text;
  EXPECT_NE(text.find("\n| a\\|b | 60 live of 6144 x 256 | 20.00 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| not measured: too odd |  |  |"), std::string::npos) << text;
}

TEST(KernelJson, IsReadBack) {
  for (const bool has_clocks : {true, false}) {
    KernelRun run = sample_run();
    if (!has_clocks) run.bench.gpu.clocks.reset();
    const ordered_json json = kernel_json(run);
    EXPECT_EQ(json["gpu"].contains("clocks"), has_clocks);
    EXPECT_EQ(json["ceiling"]["counts"], true);
    EXPECT_EQ(json["kernels"][0]["of_drain"], 0.9);
    EXPECT_EQ(json["kernels"][1].size(), 3u);
    const auto again = read_kernel_run(json, "a.json");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(kernel_json(*again), json);
    EXPECT_EQ(kernel_text(*again), kernel_text(run));
  }
}

TEST(KernelJson, PeakAndFlopAreReadBack) {
  for (const char* refusal : {"", "nothing multiplies"}) {
    KernelRun run = run_with_floor(3'000'000'000'000);
    run.bench.peak->refusal = refusal;
    const ordered_json json = kernel_json(run);
    EXPECT_EQ(json["peak"].contains("tflop_s"), run.bench.peak->refusal.empty());
    EXPECT_EQ(json["kernels"][2]["of_floor"], run.bench.peak->refusal.empty() ? 0.5 : 0.375);
    EXPECT_FALSE(json["kernels"][0].contains("flop"));
    const auto again = read_kernel_run(json, "a.json");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(kernel_json(*again), json);
    EXPECT_EQ(kernel_text(*again), kernel_text(run));
  }
  ordered_json json = kernel_json(run_with_floor(1));
  json["peak"]["flop"] = 0U;
  EXPECT_EQ(read_kernel_run(json, "a.json").error().message,
            "a.json: peak.flop: expected more than 0");
  json = kernel_json(run_with_floor(1));
  json["kernels"][2]["flop"] = 0U;
  EXPECT_EQ(read_kernel_run(json, "a.json").error().message,
            "a.json: kernels[2].flop: expected more than 0");
}

// Where and how each kind of value is refused.
TEST(KernelJson, ErrorsNameThePath) {
  const ordered_json good = kernel_json(sample_run());
  const auto error = [&](const std::string& pointer, const ordered_json& value) {
    ordered_json json = good;
    json[ordered_json::json_pointer(pointer)] = value;
    const auto run = read_kernel_run(json, "a.json");
    EXPECT_FALSE(run) << pointer;
    if (run) return std::string();
    EXPECT_EQ(run.error().code, ErrorCode::kInvalidData);
    return run.error().message;
  };
  EXPECT_EQ(error("/config", 7), "a.json: config: expected a string, found number");
  EXPECT_EQ(error("/config", "\x1b[2J"), "a.json: config: has control characters");
  EXPECT_EQ(error("/ranks", -1), "a.json: ranks: expected a whole number from 0, found number");
  EXPECT_EQ(error("/ranks", uint64_t{1} << 32), "a.json: ranks: 4294967296 is too large");
  EXPECT_EQ(error("/gpu/memory_bytes", uint64_t{1} << 60),
            "a.json: gpu.memory_bytes: 1152921504606846976 is too large");
  EXPECT_EQ(error("/gpu", "H100"), "a.json: gpu: expected an object, found string");
  EXPECT_EQ(error("/command", ordered_json::array({"a", 1})),
            "a.json: command[1]: expected a string without control characters");
  EXPECT_EQ(error("/kernels/0", nullptr), "a.json: kernels[0]: expected an object, found null");
  EXPECT_EQ(error("/kernels/0/us", ordered_json::array()),
            "a.json: kernels[0].us: expected an array of numbers from 0.001 to 10^12");
  for (const ordered_json& bad : {ordered_json(0), ordered_json("1"), ordered_json(-1.5)}) {
    EXPECT_EQ(error("/kernels/0/drain_us/2", bad),
              "a.json: kernels[0].drain_us: expected an array of numbers from 0.001 to 10^12");
  }
  EXPECT_EQ(error("/ceiling/bytes", 0U), "a.json: ceiling.bytes: expected more than 0");
  ordered_json json = good;
  json["kernels"][0].erase("bytes");
  EXPECT_EQ(read_kernel_run(json, "a.json").error().message,
            "a.json: no 'kernels[0].bytes'; expected a whole number from 0");
  EXPECT_EQ(read_kernel_run(ordered_json::array(), "a.json").error().message,
            "a.json: expected an object, found array");
}

TEST(KernelPlot, HasABarForEachMeasuredKernel) {
  const std::string svg = kernel_svg(sample_run());
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_NE(svg.find(">75<"), std::string::npos) << svg;    // of the ceiling
  EXPECT_NE(svg.find(">83.3<"), std::string::npos) << svg;  // the drain
  EXPECT_NE(svg.find(">expert gate/up: not measured<"), std::string::npos) << svg;
  EXPECT_NE(svg.find(">100<"), std::string::npos) << svg;
  EXPECT_EQ(svg.find(">150<"), std::string::npos) << svg;
}

}  // namespace
}  // namespace ultraspeed::apps
