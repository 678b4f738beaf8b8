// Reports of small models: sums over tasks against closed forms, options, and errors.
#include "plan/report.h"

#include <gtest/gtest.h>

#include <numeric>

#include "plan/accounting.h"
#include "plan/report_formulas_test.h"

namespace ultraspeed::plan {
namespace {

const std::string kRoot = US_SOURCE_DIR;

model::ModelConfig load(const std::string& directory) {
  auto config = model::ModelConfig::load(kRoot + directory);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  return *config;
}

Device h200() {
  return *find_device("h200");
}

ReportOptions small_options() {
  ReportOptions options;
  options.num_ranks = 2;
  options.context = 4096;
  return options;
}

PlanReport report_of(const model::ModelConfig& config, const ReportOptions& options) {
  auto report = make_report(config, nullptr, h200(), options);
  EXPECT_TRUE(report.has_value()) << report.error().message;
  return *report;
}

void expect_error(const Result<PlanReport>& report, ErrorCode code, const std::string& part) {
  ASSERT_FALSE(report.has_value()) << part;
  EXPECT_EQ(report.error().code, code) << report.error().message;
  EXPECT_NE(report.error().message.find(part), std::string::npos) << report.error().message;
}

// Weights and rings of MTP heads are summed with the target's.
TEST(PlanAccounting, MtpHeadsCount) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  const model::ModelConfig heads = config.mtp_stack(3).value();
  const auto plan_with = [&](const model::ModelConfig* mtp) {
    const auto shape_of = [&](const model::WeightSource& source) {
      return model::expected_shape(source.stack == heads.stack ? heads : config, source);
    };
    return make_plan(config, shape_of, h200().limits, {.max_context = 4096, .mtp = mtp}).value();
  };
  const Plan with = plan_with(&heads);
  const Plan without = plan_with(nullptr);
  uint64_t declared = 0, counted = 0;
  for (const program::WeightDecl& weight : with.program.weights) declared += weight.size_bytes();
  for (const GroupBytes& group : weight_bytes(with, 0)) counted += group.stored;
  EXPECT_EQ(counted, declared);
  EXPECT_EQ(with.program.weights.size(), without.program.weights.size() + 3 * 11);
  // 4 KV heads of 96 and 64 elements, 1024 positions.
  EXPECT_EQ(kv_elements(with.program, 0, 4096).rings,
            kv_elements(without.program, 0, 4096).rings + 3 * uint64_t{4 * (96 + 64)} * 1024);
}

TEST(PlanReport, SumsOverTasksEqualClosedForms) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  for (const uint32_t ranks : {1U, 2U}) {
    for (const uint32_t width : {1U, 8U, 33U}) {
      ReportOptions options = small_options();
      options.num_ranks = ranks;
      options.width = width;
      const PlanReport report = report_of(config, options);
      const auto form = test::closed_form(config, ranks, width, test::fp8);
      uint64_t total = 0;
      for (size_t i = 0; i < kNumWeightGroups; ++i) {
        const auto name = weight_group_name(static_cast<WeightGroup>(i));
        EXPECT_EQ(report.groups[i].stored, form.stored[i]) << name << " at " << ranks;
        EXPECT_EQ(report.groups[i].read, form.read[i]) << name << " at " << ranks << "x" << width;
        total += form.stored[i];
      }
      EXPECT_EQ(report.memory.weights, total);
      EXPECT_EQ(report.cycle.per_live_expert, report.group(WeightGroup::kExperts).read);
      EXPECT_LT(report.memory.block_padding, total / 4);
    }
  }
}

TEST(PlanReport, RankZeroStandsForAllRanksWithShares) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  PlanOptions options;
  options.num_ranks = 2;
  const ShapeLookup shapes = [&](const model::WeightSource& source) {
    return model::expected_shape(config, source);
  };
  const Plan plan = *make_plan(config, shapes, h200().limits, options);
  const auto first = weight_bytes(plan, 0);
  const auto second = weight_bytes(plan, 1);
  for (size_t i = 0; i < kNumWeightGroups; ++i) EXPECT_EQ(first[i].read, second[i].read);
}

// On 8 ranks four have expert columns, four the dense layer's; all have rows of the head and whole
// routers and norms. What the ranks read together is what one alone reads, but for the copies.
TEST(PlanReport, RanksWithoutSharesAreNotCountedAsRankZero) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  ReportOptions options = small_options();
  options.num_ranks = 1;
  const PlanReport one = report_of(config, options);
  EXPECT_EQ(one.node.at(20), one.cycle.at(20));
  options.num_ranks = 8;
  const PlanReport eight = report_of(config, options);
  EXPECT_EQ(eight.node.per_live_expert, one.cycle.per_live_expert);
  EXPECT_EQ(eight.node.per_live_expert, 4 * eight.cycle.per_live_expert);
  const auto read = [](const PlanReport& report, WeightGroup group) {
    return report.group(group).read;
  };
  EXPECT_EQ(4 * read(eight, WeightGroup::kDense), read(one, WeightGroup::kDense));
  const uint64_t copies = 7 * (read(one, WeightGroup::kRouter) + read(one, WeightGroup::kNorms));
  EXPECT_LT(eight.node.non_expert, 8 * eight.cycle.non_expert);
  // KV heads' rows of k and v are on several ranks, and an FP8 block that is cut has its scale
  // twice.
  EXPECT_GT(eight.node.non_expert, one.cycle.non_expert);
  EXPECT_LT(eight.node.non_expert,
            one.cycle.non_expert + copies + 3 * read(one, WeightGroup::kQkv));
  EXPECT_DOUBLE_EQ(eight.step_weight_bytes(), eight.node.weights_at(eight.expected_live_experts));
}

TEST(PlanReport, ScalesArePartOfTheBytes) {
  const PlanReport report = report_of(load("/models/tiny-mimo"), small_options());
  const GroupBytes& qkv = report.group(WeightGroup::kQkv);
  EXPECT_EQ(qkv.scales, (qkv.stored - qkv.scales) / 128 * 4);
  const GroupBytes& experts = report.group(WeightGroup::kExperts);
  EXPECT_EQ(experts.scales, (experts.stored - experts.scales) / 16);
  EXPECT_EQ(report.group(WeightGroup::kHead).scales, 0U);
}

TEST(PlanReport, RequantisingChangesThreeGroups) {
  model::ModelConfig config = load("/models/tiny-mimo");
  config.quantization.has_fp8_linears = false;
  ReportOptions options = small_options();
  const PlanReport plain = report_of(config, options);
  options.dense_format = DenseFormat::kFp8;
  const PlanReport packed = report_of(config, options);
  for (size_t i = 0; i < kNumWeightGroups; ++i) {
    const auto group = static_cast<WeightGroup>(i);
    const uint64_t before = plain.group(group).read;
    const uint64_t after = packed.group(group).read;
    if (group == WeightGroup::kOProj || group == WeightGroup::kHead) {
      EXPECT_EQ(after, test::fp8(before / 2));
    } else if (group == WeightGroup::kRouter) {
      const uint64_t biases = uint64_t{4} * 32 * 7;
      EXPECT_EQ(after - biases, test::fp8((before - biases) / 4));
    } else {
      EXPECT_EQ(after, before) << weight_group_name(group);
    }
  }
}

// tiny-mimo on 2 ranks: 3 full layers of 1 KV head, 5 sliding ones of 2, 96 + 64 elements a head.
TEST(PlanReport, KeysAndValues) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  ReportOptions options = small_options();
  options.context = 1000;
  const PlanReport report = report_of(config, options);
  const uint64_t full = uint64_t{3} * 160 * 2;
  const uint64_t sliding = uint64_t{5} * 2 * 160 * 2;
  EXPECT_EQ(report.memory.kv_pages, full * 1024);  // whole pages of 64 positions
  EXPECT_EQ(report.memory.kv_rings, sliding * 1024);
  EXPECT_EQ(report.cycle.kv, full * 1000 + sliding * (128 + 7));

  options.kv_format = KvFormat::kFp8;
  EXPECT_EQ(report_of(config, options).cycle.kv, report.cycle.kv / 2);
  options.context = 100;  // shorter than the window
  EXPECT_EQ(report_of(config, options).cycle.kv, (full + sliding) * 100 / 2);
}

TEST(PlanReport, ContextIsTheModelsAtMost) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  ReportOptions options = small_options();
  options.context = 0;
  EXPECT_EQ(report_of(config, options).options.context, 8192U);
  options.context = 8193;
  expect_error(make_report(config, nullptr, h200(), options), ErrorCode::kInvalidArgument,
               "max_position_embeddings 8192");
}

TEST(PlanReport, LayersAddUpToTheCriticalPath) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  for (const uint32_t ranks : {1U, 2U}) {
    ReportOptions options = small_options();
    options.num_ranks = ranks;
    const ProgramCounts counts = report_of(config, options).program;
    ASSERT_EQ(counts.hops_per_layer.size(), 8U);
    const uint32_t sum =
        std::accumulate(counts.hops_per_layer.begin(), counts.hops_per_layer.end(), 0U);
    EXPECT_EQ(sum + 3, counts.critical_path_hops);  // lm_head, sample, accept
    EXPECT_EQ(counts.drafter_hops, 0U);
    // A full layer merges splits; with one rank the two sums of a layer wait for nobody.
    EXPECT_EQ(counts.hops_per_layer[3], counts.hops_per_layer[2] + 1);
    EXPECT_EQ(counts.hops_per_layer[2], ranks == 1 ? 7U : 9U);
  }
}

// A drafter has sliding, dense layers; its hops are estimated from this figure.
TEST(PlanReport, DenseSlidingLayersHaveSevenHops) {
  model::ModelConfig config = load("/models/tiny-mimo");
  for (model::LayerConfig& layer : config.layers) layer.is_moe = false;
  ReportOptions options = small_options();
  PlanReport report = report_of(config, options);
  EXPECT_EQ(report.program.hops_per_layer[2], 7U);
  EXPECT_EQ(report.num_expert_layers, 0U);
  EXPECT_EQ(report.cycle.per_live_expert, 0U);
  EXPECT_EQ(live_expert_cases(report), std::vector<double>{0.0});
  options.num_ranks = 1;
  EXPECT_EQ(report_of(config, options).program.hops_per_layer[2], 5U);
}

// The distinct experts of 1, 2, 4, 8 and 16 independent tokens, 8 of 384 each.
TEST(PlanReport, ExpectedLiveExperts) {
  EXPECT_NEAR(expected_live_experts(384, 8, 1), 8.0, 1e-9);
  EXPECT_NEAR(expected_live_experts(384, 8, 2), 15.8, 0.05);
  EXPECT_NEAR(expected_live_experts(384, 8, 4), 31.0, 0.05);
  EXPECT_NEAR(expected_live_experts(384, 8, 8), 59.5, 0.05);
  EXPECT_NEAR(expected_live_experts(384, 8, 16), 110.0, 0.5);
}

TEST(PlanReport, CasesEndWhereAStepCannotReach) {
  const model::ModelConfig config = load("/models/tiny-mimo");
  ReportOptions options = small_options();
  options.width = 1;
  const PlanReport one = report_of(config, options);
  EXPECT_EQ(one.max_live_experts, 4U);
  ASSERT_EQ(live_expert_cases(one).size(), 1U);
  EXPECT_NEAR(live_expert_cases(one)[0], 4.0, 1e-9);
  options.width = 8;
  const std::vector<double> cases = live_expert_cases(report_of(config, options));
  ASSERT_EQ(cases.size(), 2U);
  EXPECT_EQ(cases[0], 30.0);
}

TEST(PlanReport, CycleTimeIsBytesAndHops) {
  const PlanReport report = report_of(load("/models/tiny-mimo"), small_options());
  const CycleBytes& cycle = report.cycle;
  const double bytes =
      static_cast<double>(cycle.non_expert + 30 * cycle.per_live_expert + cycle.kv);
  EXPECT_DOUBLE_EQ(cycle.at(30), bytes);
  EXPECT_DOUBLE_EQ(cycle_seconds(report, 30, 0), bytes / 4.6e12);
  EXPECT_NEAR(cycle_seconds(report, 30, 2) - cycle_seconds(report, 30, 0),
              2e-6 * report.program.critical_path_hops, 1e-12);
}

TEST(PlanReport, SaysWhetherItFits) {
  Device device = h200();
  const model::ModelConfig config = load("/models/tiny-mimo");
  PlanReport report = *make_report(config, nullptr, device, small_options());
  EXPECT_TRUE(report.fits());
  report.device.limits.memory_bytes = report.memory.total();
  EXPECT_TRUE(report.fits());
  --report.device.limits.memory_bytes;
  EXPECT_FALSE(report.fits());
}

TEST(PlanReport, RejectsWhatCannotBePlanned) {
  model::ModelConfig flash = load("/configs/mimo-v2-flash");
  ReportOptions options = small_options();
  options.num_ranks = 8;
  flash.vocab_size = 1001;
  expect_error(make_report(flash, nullptr, h200(), options), ErrorCode::kUnsupported,
               "vocab_size 1001 is not a multiple");
  options.num_ranks = 3;
  expect_error(make_report(flash, nullptr, h200(), options), ErrorCode::kInvalidArgument,
               "3 ranks: expected 1, 2, 4 or 8");
  options.num_ranks = 0;
  expect_error(make_report(flash, nullptr, h200(), options), ErrorCode::kInvalidArgument,
               "0 ranks");
  options.num_ranks = 4;
  options.width = 513;
  expect_error(make_report(flash, nullptr, h200(), options), ErrorCode::kInvalidArgument,
               "width 513 is not in 1..512");
}

TEST(PlanReport, RejectsTheDrafterOfAnotherModel) {
  auto drafter = *model::DrafterConfig::load(kRoot + "/configs/mimo-v2.5-pro/dflash");
  const model::ModelConfig config = load("/models/tiny-mimo");
  expect_error(make_report(config, &drafter, h200(), small_options()), ErrorCode::kUnsupported,
               "drafts for a model of 70 layers with hidden_size 6144");
  drafter.hidden_size = config.hidden_size;
  drafter.num_target_layers = config.num_layers();
  drafter.vocab_size = config.vocab_size + 1;
  expect_error(make_report(config, &drafter, h200(), small_options()), ErrorCode::kUnsupported,
               "has a vocabulary of");
}

TEST(Devices, FindsByNameWhateverTheCase) {
  const Result<Device> device = find_device("H100");
  ASSERT_TRUE(device.has_value());
  EXPECT_EQ(device->limits.num_workers, 132U);
  EXPECT_EQ(device->limits.weight_page_bytes, 17408U);
  EXPECT_EQ(device->limits.ring_pages, 12U);
  EXPECT_EQ(device->streaming_bandwidth(), 3.13e12);
  EXPECT_TRUE(device->is_measured());
  const Device b200 = *find_device("b200");
  EXPECT_EQ(b200.limits.num_workers, 148U);
  EXPECT_FALSE(b200.is_measured());
  EXPECT_DOUBLE_EQ(b200.streaming_bandwidth(), 7.36e12);
}

TEST(Devices, NamesThoseItKnows) {
  const Result<Device> device = find_device("a100");
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(device.error().message.find("'a100'"), std::string::npos);
  EXPECT_NE(device.error().message.find("h100, h200, b200"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::plan
