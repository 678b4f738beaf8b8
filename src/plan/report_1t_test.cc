// The 1T model on 8 GPUs: the planner's own limits, and its bytes against published figures. Each
// difference is taken away term by term; docs/decode_bound.md section 5 explains them.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "plan/report.h"
#include "plan/report_formulas_test.h"

namespace ultraspeed::plan {
namespace {

const std::string kPro = std::string(US_SOURCE_DIR) + "/configs/mimo-v2.5-pro";
constexpr double kGiga = 1e9;
constexpr double kRanks = 8;

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Two reports of the published model: as in the checkpoint, and with o_proj, head and router in
// FP8.
class Report1T : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const double begin = cpu_seconds();
    checkpoint_ = new PlanReport(make(DenseFormat::kCheckpoint));
    first_seconds_ = cpu_seconds() - begin;
    fp8_ = new PlanReport(make(DenseFormat::kFp8));
  }
  static void TearDownTestSuite() {
    delete checkpoint_;
    delete fp8_;
  }

  static PlanReport make(DenseFormat format) {
    const auto config = model::ModelConfig::load(kPro);
    const auto drafter = model::DrafterConfig::load(kPro + "/dflash");
    ReportOptions options;
    options.context = 32768;
    options.dense_format = format;
    auto report = make_report(*config, &*drafter, *find_device("h200"), options);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return *report;
  }

  // One GPU's bytes of a group in one step, in GB.
  static double read(const PlanReport& report, WeightGroup group) {
    return static_cast<double>(report.group(group).read) / kGiga;
  }
  // The same in the checkpoint's own form: codes, and a scale for 128 x 128 elements.
  static double read_compact(const PlanReport& report, WeightGroup group) {
    const auto scales = static_cast<double>(report.group(group).scales);
    return read(report, group) - scales * (1.0 - 1.0 / 128) / kGiga;
  }

  static const PlanReport& checkpoint() { return *checkpoint_; }
  static const PlanReport& fp8() { return *fp8_; }

  static inline PlanReport* checkpoint_ = nullptr;
  static inline PlanReport* fp8_ = nullptr;
  static inline double first_seconds_ = 0;
};

TEST_F(Report1T, PlansAndVerifiesInTenSecondsAndTwoGigabytes) {
  EXPECT_LT(first_seconds_, 10.0);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 2'000'000);  // KiB
}

TEST_F(Report1T, CountsTheProgram) {
  EXPECT_NEAR(static_cast<double>(checkpoint().parameters.total) / kGiga, 1021.25, 0.005);
  EXPECT_NEAR(static_cast<double>(checkpoint().parameters.active) / kGiga, 41.89, 0.005);
  const ProgramCounts& program = checkpoint().program;
  // 70 layers of 8 to 10 stages, embedding, head, sample, accept.
  EXPECT_EQ(program.num_stages, 642U);
  EXPECT_EQ(program.critical_path_hops, 641U);
  EXPECT_EQ(program.hops_per_layer[0], 8U);   // dense, full attention
  EXPECT_EQ(program.hops_per_layer[1], 9U);   // experts, sliding
  EXPECT_EQ(program.hops_per_layer[7], 10U);  // experts, full
  EXPECT_EQ(std::count(program.hops_per_layer.begin(), program.hops_per_layer.end(), 9U), 60);
  EXPECT_EQ(program.drafter_hops, 5U * 7 + 3);
  EXPECT_GT(program.num_waits, program.num_tasks);  // down tiles wait twice
  EXPECT_GT(program.num_cross_rank_signals, 0U);
}

TEST_F(Report1T, SumsOverTasksEqualClosedForms) {
  const auto form = test::closed_form(checkpoint().config, 8, 8, test::bf16);
  for (size_t i = 0; i < kNumWeightGroups; ++i) {
    EXPECT_EQ(checkpoint().groups[i].stored, form.stored[i]);
    EXPECT_EQ(checkpoint().groups[i].read, form.read[i]);
  }
}

// 28.3 GB (BF16 o_proj) and 21.2 GB (FP8) of non-expert weights on the whole node.
TEST_F(Report1T, NonExpertBytesOfTheNode) {
  const PlanReport& report = checkpoint();
  const auto published = [&](double o_proj) {
    double sum = read_compact(report, WeightGroup::kQkv) + o_proj +
                 read_compact(report, WeightGroup::kDense) + read(report, WeightGroup::kHead);
    // One BF16 router for the node, instead of an F32 one on each of 8 GPUs.
    sum += read(report, WeightGroup::kRouter) / 2 / kRanks;
    return kRanks * sum;
  };
  EXPECT_NEAR(published(read(report, WeightGroup::kOProj)), 28.3, 0.05);
  EXPECT_NEAR(published(read_compact(fp8(), WeightGroup::kOProj)), 21.2, 0.05);

  // What our form adds: 3.1 % of scales, routers, norms and the embedding's rows.
  const double ours = kRanks * static_cast<double>(report.cycle.non_expert) / kGiga;
  const double routers = kRanks * read(report, WeightGroup::kRouter) * (1.0 - 0.5 / kRanks);
  const double scales = kRanks *
                        static_cast<double>(report.group(WeightGroup::kQkv).scales +
                                            report.group(WeightGroup::kDense).scales) /
                        kGiga;
  const double norms =
      kRanks * (read(report, WeightGroup::kNorms) + read(report, WeightGroup::kEmbedding));
  EXPECT_NEAR(ours - routers - scales - norms, 28.3, 0.05);
  EXPECT_NEAR(ours, 33.55, 0.01);
  const double o_proj_fp8 = read(report, WeightGroup::kOProj) - read(fp8(), WeightGroup::kOProj);
  EXPECT_NEAR(ours - kRanks * o_proj_fp8, 26.73, 0.01);
}

// 82.4 GB of experts at 59.5 live, 11.07 GB for one token; with the non-expert bytes 110.6 GB
// (13.8 a GPU) and 39.3 GB.
TEST_F(Report1T, ExpertBytesOfTheNode) {
  const PlanReport& report = checkpoint();
  const double node = kRanks * static_cast<double>(report.cycle.per_live_expert) / kGiga;
  EXPECT_NEAR(report.expected_live_experts, 59.5, 0.05);
  EXPECT_NEAR(node * report.expected_live_experts, 82.4, 0.1);
  EXPECT_NEAR(node * 8, 11.07, 0.005);
  EXPECT_NEAR(node * 8 + 28.3, 39.3, 0.1);
  EXPECT_NEAR(node * 59.5 + 28.3, 110.6, 0.1);
  EXPECT_NEAR((node * 59.5 + 28.3) / kRanks, 13.8, 0.05);
  EXPECT_NEAR(report.cycle.weights_at(8) * kRanks / kGiga, 44.6, 0.05);
  EXPECT_NEAR(report.cycle.weights_at(59.5) * kRanks / kGiga, 115.9, 0.05);
}

// 70.2 GB of weights a GPU; 25600 elements of KV a token; 0.7 GB of drafter.
TEST_F(Report1T, MemoryOfAGpu) {
  const PlanReport& report = checkpoint();
  const double routers = read(report, WeightGroup::kRouter) * (1.0 - 0.5 / kRanks);
  const double scales = static_cast<double>(report.group(WeightGroup::kQkv).scales +
                                            report.group(WeightGroup::kDense).scales) /
                        kGiga;
  const double weights = static_cast<double>(report.memory.weights) / kGiga;
  EXPECT_NEAR(weights - routers - scales, 70.2, 0.05);
  EXPECT_NEAR(weights, 70.85, 0.01);
  EXPECT_EQ(report.memory.kv_pages, uint64_t{25600} * 2 * 32768 / 8);
  // The published ring has the window's 128 positions (39 MB for the node), ours 1024.
  EXPECT_EQ(report.memory.kv_rings, uint64_t{60} * 1024 * 2560 * 2 / 8);
  EXPECT_NEAR(static_cast<double>(report.memory.drafter_weights), 5'536'632'576.0 / 8, 1.0);

  PlanReport h100 = report;
  h100.device = *find_device("h100");
  EXPECT_TRUE(h100.fits());
}

// The rows of a published budget, GB a GPU and cycle, for FP8 or BF16 o_proj.
TEST_F(Report1T, BudgetOfACycle) {
  const PlanReport& report = checkpoint();
  EXPECT_NEAR(read_compact(report, WeightGroup::kQkv), 1.46, 0.005);
  EXPECT_NEAR(read_compact(fp8(), WeightGroup::kOProj), 0.88, 0.005);
  EXPECT_NEAR(read(report, WeightGroup::kOProj), 1.76, 0.005);
  EXPECT_NEAR(read(report, WeightGroup::kRouter) / 2, 0.33, 0.005);
  EXPECT_NEAR(read_compact(report, WeightGroup::kDense) + read(report, WeightGroup::kHead), 0.27,
              0.005);
  EXPECT_NEAR(static_cast<double>(report.cycle.kv) / kGiga, 0.22, 0.006);
  EXPECT_NEAR(static_cast<double>(report.cycle.drafter + report.cycle.drafter_head) / kGiga, 0.93,
              0.005);
  const std::array<std::pair<double, double>, 4> experts = {
      {{59.5, 10.29}, {50, 8.65}, {40, 6.92}, {30, 5.19}}};
  for (const auto& [live, gigabytes] : experts) {
    const double read = live * static_cast<double>(report.cycle.per_live_expert) / kGiga;
    EXPECT_NEAR(read, gigabytes, 0.005) << live;
  }
  // Sums 14.4 and 11.0 with FP8 o_proj, BF16 router and head, compact scales.
  const auto sum = [&](double live) {
    const double o_proj =
        read(report, WeightGroup::kOProj) - read_compact(fp8(), WeightGroup::kOProj);
    const double router = read(report, WeightGroup::kRouter) / 2;
    const double scales = read(report, WeightGroup::kQkv) - read_compact(report, WeightGroup::kQkv);
    return report.cycle.at(live) / kGiga - o_proj - router - scales;
  };
  EXPECT_NEAR(sum(59.5), 14.4, 0.05);
  EXPECT_NEAR(sum(40), 11.0, 0.05);
  // Its floors, at 0.92 of the data sheets' bandwidths.
  EXPECT_NEAR(sum(59.5) / (0.92 * 3.35), 4.66, 0.02);
  EXPECT_NEAR(sum(59.5) / (0.92 * 4.8), 3.25, 0.02);
}

// The probe's 13.2 GB of an 8-row step at 60 live experts: qkv and o_proj codes in FP8, a BF16
// router, experts, in each of 70 layers; no scales, head, norms or dense layer.
TEST_F(Report1T, ProbeOfAStep) {
  const double router = read(checkpoint(), WeightGroup::kRouter) / 2;
  const auto experts = static_cast<double>(60 * fp8().cycle.per_live_expert) / kGiga;
  const double probe = read_compact(fp8(), WeightGroup::kQkv) +
                       read_compact(fp8(), WeightGroup::kOProj) + (router + experts) * 70 / 69;
  EXPECT_NEAR(probe, 13.2, 0.02);
  // Ours has one dense layer less of experts and the head more: 0.6 % apart.
  EXPECT_NEAR(fp8().cycle.weights_at(60) / kGiga, 13.12, 0.01);
}

// Milliseconds that docs/decode_bound.md sections 5 to 7 quote.
TEST_F(Report1T, CycleTimes) {
  const auto ms = [](const PlanReport& report, const char* device, double live, double us_per_hop) {
    PlanReport other = report;
    other.device = *find_device(device);  // as many workers on all that are named here
    return 1e3 * cycle_seconds(other, live, us_per_hop);
  };
  EXPECT_NEAR(ms(checkpoint(), "h200", 60, 0), 3.42, 0.005);
  EXPECT_NEAR(ms(checkpoint(), "h100", 60, 0), 5.02, 0.005);
  EXPECT_NEAR(ms(checkpoint(), "h200", 30, 0), 2.29, 0.005);
  EXPECT_NEAR(ms(checkpoint(), "h200", 60, 1.3), 4.30, 0.005);
  EXPECT_NEAR(ms(checkpoint(), "h200", 60, 2.6), 5.18, 0.005);
  EXPECT_NEAR(ms(fp8(), "h200", 59.5, 0), 3.06, 0.005);
  EXPECT_NEAR(ms(fp8(), "h100", 59.5, 0), 4.49, 0.005);
}

// Down tiles of 48 rows of 136 bytes fill 13 blocks of 512 but for 128 bytes.
TEST_F(Report1T, PaddingOfTiles) {
  EXPECT_EQ(checkpoint().memory.block_padding, uint64_t{69} * 384 * 128 * 128);
}

}  // namespace
}  // namespace ultraspeed::plan
