#include "cuda/weight_form.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "cuda/tile/dense_page.h"
#include "cuda/tile/pack_dense.h"

namespace ultraspeed::cuda {
namespace {

using program::Activations;
using program::EmbedOperands;
using program::ExpertDownOperands;
using program::ExpertGateUpOperands;
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
  // Of hidden size 1024; chunks of an eighth of `intermediate`.
  void experts(WeightFormat gate_up, WeightFormat down, uint32_t intermediate) {
    program_.hidden_size = 1024;
    ExpertGateUpOperands up;
    up.weight = weight(gate_up, 2 * intermediate, 1024);
    up.intermediate_size = intermediate;
    stage(up);
    ExpertDownOperands op;
    op.weight = weight(down, 1024, intermediate);
    op.intermediate_size = intermediate;
    stage(op);
  }
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
    const std::vector<WeightForm> pages = {WeightForm::kDenseQkvPages,
                                           WeightForm::kDensePartialPages,
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
  maker.linear(maker.weight(kFp8, 64, 2880));
  expect_last(WeightForm::kDensePages, "columns that are filled up");
  maker.linear(maker.weight(kFp8, 64, 1022));
  expect_last(WeightForm::kCanonical, "columns that 4 does not divide");
  maker.linear(maker.weight(WeightFormat::kF32, 64, 1024));
  expect_last(WeightForm::kCanonical, "F32");
  maker.linear(maker.weight(kFp8, 63, 1024));
  expect_last(WeightForm::kCanonical, "an odd number of rows");
  OutProjOperands out;
  out.weight = maker.weight(kFp8, 64, 512);
  maker.stage(out);
  expect_last(WeightForm::kDensePartialPages, "K-chunks of 64 columns");
  out.weight = maker.weight(kFp8, 64, 2880);
  maker.stage(out);
  expect_last(WeightForm::kDensePartialPages, "K-chunks of 360 columns");
  out.weight = maker.weight(kFp8, 64, 720);
  maker.stage(out);
  expect_last(WeightForm::kCanonical, "K-chunks of 90 columns");
  LinearOperands normed = maker.linear_of(maker.weight(kFp8, 64, 29 * 1024));
  maker.stage(normed);
  expect_last(WeightForm::kDensePages, "a long row");
  normed.norm.weight = 0;
  maker.stage(normed);
  expect_last(WeightForm::kCanonical, "a long row with a norm");
  normed.weight = maker.weight(kBf16, 64, 2880);
  maker.stage(normed);
  expect_last(WeightForm::kDensePages, "a row with a norm that 512 does not divide");
  QkvProjOperands qkv = qkv_of(maker.weight(kFp8, kQkvRows, 1024));
  qkv.bias = 0;
  maker.stage(qkv);
  expect_last(WeightForm::kDenseQkvPages, "heads with biases");
  qkv.weight = maker.weight(kFp8, kQkvRows, 1024);
  qkv.k_norm.weight = 0;
  maker.stage(qkv);
  expect_last(WeightForm::kCanonical, "heads with biases and norms");
}

TEST(WeightForm, HeadsWithNormsAndJoinedInputsArePlainProducts) {
  Maker maker;
  QkvProjOperands qkv = qkv_of(maker.weight(kFp8, kQkvRows, 1024));
  qkv.k_norm.weight = 0;
  maker.stage(qkv);
  LinearOperands joined = maker.linear_of(maker.weight(kFp8, 64, 2048));
  joined.more_inputs[0] = 1;
  maker.stage(joined);
  EXPECT_EQ(maker.forms(), std::vector<WeightForm>(2, WeightForm::kDensePages));
}

TEST(WeightForm, StagesWithoutKernelsStayCanonical) {
  Maker maker;
  LinearOperands joined = maker.linear_of(maker.weight(kFp8, 64, 2048));
  joined.more_inputs[0] = 1;
  joined.second_norm.weight = 0;
  maker.stage(joined);
  maker.weight(kFp8, 64, 1024);  // which no stage reads
  EXPECT_EQ(maker.forms(), std::vector<WeightForm>(2, WeightForm::kCanonical));
}

TEST(WeightForm, WeightsOfSeveralStagesHaveOneOrderOrStayCanonical) {
  Maker maker;
  const WeightId head = maker.weight(kFp8, 64, 1024), tied = maker.weight(kFp8, 64, 1024);
  const WeightId twice = maker.weight(kFp8, 64, 1024), heads = maker.weight(kFp8, kQkvRows, 1024);
  const WeightId chunked = maker.weight(kFp8, 64, 1024);
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
  OutProjOperands out;
  out.weight = chunked;
  maker.stage(out);
  maker.linear(chunked);  // not in K-chunks
  EXPECT_EQ(maker.forms(),
            (std::vector{WeightForm::kDensePages, WeightForm::kCanonical, WeightForm::kCanonical,
                         WeightForm::kDenseQkvPages, WeightForm::kCanonical}));
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

// Layers share the operands of their experts' stages.
TEST(WeightForm, ExpertsUnlikeTheFirstStayCanonical) {
  Maker maker;
  maker.experts(kFp8, kFp8, 2048);
  maker.experts(WeightFormat::kMxfp4, WeightFormat::kMxfp4, 2048);
  maker.experts(kFp8, kFp8, 1024);
  maker.experts(kFp8, kFp8, 2048);
  std::vector<WeightForm> expected(8, WeightForm::kCanonical);
  for (const size_t layer : {0, 3}) {
    expected[2 * layer] = WeightForm::kFp8GateUpPages;
    expected[2 * layer + 1] = WeightForm::kFp8DownPages;
  }
  EXPECT_EQ(maker.forms(), expected);
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
    const DenseMatrix matrix = {decl.format, decl.rows, decl.cols, 1};
    unpack_dense(matrix, orders[id], std::span(pages).first(dense_page_bytes(matrix)), back);
    EXPECT_EQ(back, canonical) << id;
  }
}

TEST(WeightForm, ExpertsHaveTheFormOfTheirFormat) {
  constexpr auto kMxfp4 = WeightFormat::kMxfp4;
  using Forms = std::vector<WeightForm>;
  const auto forms_of = [](WeightFormat gate_up, WeightFormat down, uint32_t intermediate) {
    Maker maker;
    maker.experts(gate_up, down, intermediate);
    return maker.forms();
  };
  const Forms fp8 = {WeightForm::kFp8GateUpPages, WeightForm::kFp8DownPages};
  const Forms canonical(2, WeightForm::kCanonical);
  EXPECT_EQ(forms_of(kFp8, kFp8, 2048), fp8);
  EXPECT_EQ(forms_of(kFp8, kFp8, 128), fp8) << "chunks of 16";
  EXPECT_EQ(forms_of(kMxfp4, kMxfp4, 2048),
            (Forms{WeightForm::kGateUpPages, WeightForm::kDownPages}));
  EXPECT_EQ(forms_of(kFp8, kMxfp4, 2048), canonical);
  EXPECT_EQ(forms_of(kMxfp4, kFp8, 2048), canonical);
  EXPECT_EQ(forms_of(kBf16, kBf16, 2048), canonical);
  EXPECT_EQ(forms_of(kFp8, kFp8, 1536), fp8) << "chunks of 192, which share pages";
  EXPECT_EQ(forms_of(kFp8, kFp8, 3072), fp8) << "chunks of 384";
  for (const WeightForm form : fp8) EXPECT_TRUE(is_expert(form) && !is_dense(form));
  EXPECT_FALSE(is_expert(WeightForm::kCanonical) || is_expert(WeightForm::kDensePages));
}

// Down's chunks of 16 columns are filled up.
TEST(WeightForm, PagesOfExpertsHaveTheirOrder) {
  Maker maker;
  maker.experts(kFp8, kFp8, 128);
  const Program& program = maker.program();
  const std::vector<WeightForm> forms = maker.forms();
  for (WeightId id = 0; id < 2; ++id) {
    const program::WeightDecl& decl = program.weights[id];
    std::vector<std::byte> canonical(decl.matrix_bytes(), std::byte{0x3c});
    for (uint64_t i = 0; i < uint64_t{decl.rows} * decl.cols; ++i) {
      canonical[i] = static_cast<std::byte>((i * 31 + i / 509) % 126);
    }
    const DenseMatrix matrix = {kFp8, decl.rows, decl.cols, id == 0 ? 1u : 8u};
    std::vector<std::byte> pages(form_bytes(program, id, forms[id]));
    ASSERT_EQ(pages.size(), dense_page_bytes(matrix));
    ASSERT_TRUE(to_pages({&program, 1}, id, forms[id], canonical, pages));
    std::vector<std::byte> back(packed_bytes(kFp8, matrix.rows, matrix.columns));
    unpack_dense(matrix, id == 0 ? gate_up_order(128) : neighbour_order(1024), pages, back);
    EXPECT_EQ(back, canonical) << id;
  }
}

// 0 times such a weight would reach columns that chose other experts.
TEST(WeightForm, RefusesExpertsThatAreNoNumbers) {
  Maker maker;
  maker.experts(kFp8, kFp8, 2048);
  const Program& program = maker.program();
  const std::vector<WeightForm> forms = maker.forms();
  const uint64_t codes = 1024 * 2048;
  std::vector<std::byte> canonical(program.weights[1].matrix_bytes(), std::byte{0x3c});
  std::vector<std::byte> pages(form_bytes(program, 1, forms[1]));
  const auto pack = [&] { return to_pages({&program, 1}, 1, forms[1], canonical, pages); };
  EXPECT_TRUE(pack());
  canonical[3 * 2048 + 7] = std::byte{0xff};
  const Status code = pack();
  ASSERT_FALSE(code);
  EXPECT_EQ(code.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(code.error().message,
            "w1: row 3 has a NaN in column 7, which the GPU's expert products cannot hold");
  canonical[3 * 2048 + 7] = std::byte{0xfe};
  EXPECT_TRUE(pack()) << "-448";
  const uint32_t infinity = 0x7f800000;
  std::memcpy(&canonical[codes + 5 * 4], &infinity, 4);
  const Status scale = pack();
  ASSERT_FALSE(scale);
  EXPECT_EQ(scale.error().message,
            "w1: scale 5 is inf, which the GPU's expert products cannot hold");
}

}  // namespace
}  // namespace ultraspeed::cuda
