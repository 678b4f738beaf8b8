#include "cuda/weight_form.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/tile/pack_dense.h"

namespace ultraspeed::cuda {
namespace {

using program::Activations;
using program::EmbedOperands;
using program::GateUpOperands;
using program::LinearOperands;
using program::OutProjOperands;
using program::Program;
using program::QkvProjOperands;
using program::WeightId;
using tensor::WeightFormat;

constexpr auto kFp8 = WeightFormat::kFp8Block128;
constexpr auto kBf16 = WeightFormat::kBf16;
constexpr uint32_t kNumKvHeads = 2, kHeadDim = 96, kValueDim = 64, kRotaryDim = 32;

// A program of stages that are made up; weights are declared as they come.
class Maker {
 public:
  WeightId weight(WeightFormat format, uint32_t rows, uint32_t cols) {
    program_.weights.push_back({"w" + std::to_string(program_.weights.size()), format, rows, cols});
    return static_cast<WeightId>(program_.weights.size() - 1);
  }
  template <class Op>
  void stage(const Op& op) {
    program_.stages.push_back({"", program::kNoLayer, op});
  }
  void linear(WeightId id) { stage(linear_of(id)); }
  LinearOperands linear_of(WeightId id) const {
    LinearOperands op;
    op.weight = id;
    op.rows = op.total_rows = program_.weights[id].rows;
    return op;
  }
  Program& program() { return program_; }

  std::vector<WeightForm> forms(Activations activations = Activations::kW4a8) const {
    return weight_forms({&program_, 1}, {activations, program::KvCacheType::kF32, {}});
  }

 private:
  Program program_;
};

QkvProjOperands qkv_of(WeightId id) {
  QkvProjOperands op;
  op.weight = id;
  op.num_q_heads = 4;
  op.num_kv_heads = kNumKvHeads;
  op.head_dim = kHeadDim;
  op.v_head_dim = kValueDim;
  op.rotary_dim = kRotaryDim;
  return op;
}
constexpr uint32_t kQkvRows = (4 + kNumKvHeads) * kHeadDim + kNumKvHeads * kValueDim;

TEST(WeightForm, StagesChooseTheOrderOfRows) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    Maker maker;
    maker.stage(qkv_of(maker.weight(format, kQkvRows, 1024)));
    OutProjOperands out;
    out.weight = maker.weight(format, 64, 8192);
    maker.stage(out);
    GateUpOperands gate_up;
    gate_up.weight = maker.weight(format, 128, 1024);
    maker.stage(gate_up);
    maker.linear(maker.weight(format, 66, 1024));
    const std::vector<WeightForm> pages = {WeightForm::kDenseQkvPages, WeightForm::kDensePages,
                                           WeightForm::kDenseGateUpPages, WeightForm::kDensePages};
    EXPECT_EQ(maker.forms(), pages);
    EXPECT_EQ(form_bytes(maker.program(), 3, WeightForm::kDensePages),
              dense_page_bytes({format, 66, 1024}));
    const std::vector<WeightForm> canonical(4, WeightForm::kCanonical);
    for (const auto mode : {Activations::kF32, Activations::kW4a16}) {
      EXPECT_EQ(maker.forms(mode), canonical);
    }
    maker.program().num_ranks = 2;
    EXPECT_EQ(maker.forms(), canonical);
  }
}

TEST(WeightForm, ShapesWithoutKernelsStayCanonical) {
  Maker maker;
  const auto expect_last = [&](WeightForm form, const char* what) {
    EXPECT_EQ(maker.forms().back(), form) << what;
  };
  maker.linear(maker.weight(kFp8, 64, 512));
  expect_last(WeightForm::kCanonical, "half of the columns that a cluster shares");
  maker.linear(maker.weight(kBf16, 64, 512));
  expect_last(WeightForm::kDensePages, "in BF16 they are enough");
  maker.linear(maker.weight(WeightFormat::kF32, 64, 1024));
  expect_last(WeightForm::kCanonical, "F32");
  maker.linear(maker.weight(kFp8, 63, 1024));
  expect_last(WeightForm::kCanonical, "an odd number of rows");
  OutProjOperands out;
  out.weight = maker.weight(kFp8, 64, 4096);
  maker.stage(out);
  expect_last(WeightForm::kCanonical, "K-chunks of 512 columns");
  LinearOperands normed = maker.linear_of(maker.weight(kFp8, 64, 29 * 1024));
  maker.stage(normed);
  expect_last(WeightForm::kDensePages, "a long row");
  normed.norm.weight = 0;
  maker.stage(normed);
  expect_last(WeightForm::kCanonical, "a long row with a norm");
}

TEST(WeightForm, StagesThatTheEpiloguesCannotDoStayCanonical) {
  Maker maker;
  QkvProjOperands qkv = qkv_of(maker.weight(kFp8, kQkvRows, 1024));
  qkv.k_norm.weight = 0;
  maker.stage(qkv);
  LinearOperands joined = maker.linear_of(maker.weight(kFp8, 64, 2048));
  joined.more_inputs[0] = 1;
  maker.stage(joined);
  maker.weight(kFp8, 64, 1024);  // which no stage reads
  EXPECT_EQ(maker.forms(), std::vector<WeightForm>(3, WeightForm::kCanonical));
}

TEST(WeightForm, WeightsOfSeveralStagesHaveOneOrderOrStayCanonical) {
  Maker maker;
  const WeightId head = maker.weight(kFp8, 64, 1024), tied = maker.weight(kFp8, 64, 1024);
  const WeightId twice = maker.weight(kFp8, 64, 1024), heads = maker.weight(kFp8, kQkvRows, 1024);
  for (int i = 0; i < 2; ++i) maker.linear(head);
  maker.linear(tied);
  EmbedOperands embed;
  embed.table = tied;
  maker.stage(embed);
  GateUpOperands gate_up;
  gate_up.weight = twice;
  maker.stage(gate_up);
  maker.linear(twice);
  maker.stage(gate_up);
  maker.stage(qkv_of(heads));
  EXPECT_EQ(maker.forms(), (std::vector{WeightForm::kDensePages, WeightForm::kCanonical,
                                        WeightForm::kCanonical, WeightForm::kDenseQkvPages}));
  QkvProjOperands other = qkv_of(heads);
  other.rotary_dim = 64;
  maker.stage(other);
  EXPECT_EQ(maker.forms()[heads], WeightForm::kCanonical) << "other pairs rotate";
}

// A weight that the first program does not read, and one that the second reads in another order.
TEST(WeightForm, AllProgramsCount) {
  Maker maker;
  maker.linear(maker.weight(kFp8, 64, 1024));
  const WeightId later = maker.weight(kFp8, kQkvRows, 1024);
  std::vector<Program> programs = {maker.program(), maker.program()};
  programs[1].stages[0].operands = qkv_of(later);
  EXPECT_EQ(weight_forms(programs, {Activations::kW4a8, program::KvCacheType::kF32, {}}),
            (std::vector{WeightForm::kDensePages, WeightForm::kDenseQkvPages}));
  GateUpOperands gate_up;
  gate_up.weight = 0;
  programs[1].stages[0].operands = gate_up;
  EXPECT_EQ(weight_forms(programs, {Activations::kW4a8, program::KvCacheType::kF32, {}}),
            (std::vector{WeightForm::kCanonical, WeightForm::kCanonical}));
}

// Pages hold all codes of a matrix, in the order that the stage's epilogue expects.
TEST(WeightForm, PagesHaveTheirOrder) {
  Maker maker;
  maker.stage(qkv_of(maker.weight(kFp8, kQkvRows, 1024)));
  GateUpOperands gate_up;
  gate_up.weight = maker.weight(kBf16, 96, 512);
  maker.stage(gate_up);
  maker.linear(maker.weight(kBf16, 96, 512));
  const std::vector<RowOrder> orders = {
      qkv_order({4, kNumKvHeads, kHeadDim, kValueDim, kRotaryDim}), gate_up_order(48),
      neighbour_order(96)};
  const std::vector<WeightForm> forms = maker.forms();
  for (WeightId id = 0; id < orders.size(); ++id) {
    const program::WeightDecl& decl = maker.program().weights[id];
    std::vector<std::byte> canonical(decl.matrix_bytes()), back(decl.matrix_bytes());
    for (size_t i = 0; i < canonical.size(); ++i)
      canonical[i] = static_cast<std::byte>(i * 31 + i / 509);
    std::vector<std::byte> pages(form_bytes(maker.program(), id, forms[id]));
    ASSERT_TRUE(to_pages({&maker.program(), 1}, id, forms[id], canonical, pages));
    const DenseMatrix matrix = {decl.format, decl.rows, decl.cols};
    unpack_dense(matrix, orders[id], std::span(pages).first(dense_page_bytes(matrix)), back);
    EXPECT_EQ(back, canonical) << id;
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
