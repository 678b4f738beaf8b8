// Texts of the bundled model on the GPU: bit by bit the same with every drafter, width and company.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "cuda/cache_form.h"
#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "cuda/paged_checkpoint.h"
#include "cuda/weight_form.h"
#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/mtp_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

Setup on_gpu(Setup setup, program::Activations activations = program::Activations::kF32,
             program::KvCacheType kv_cache = program::KvCacheType::kF32) {
  setup.num_threads = test::kGpuWorkers;
  setup.make_executor = [activations, kv_cache] {
    return cuda::make_graph_executor(activations, kv_cache);
  };
  return setup;
}

class GpuTexts : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }
};

class GpuTextsIn : public GpuTexts, public testing::WithParamInterface<program::Activations> {};

INSTANTIATE_TEST_SUITE_P(Modes, GpuTextsIn,
                         testing::Values(program::Activations::kF32, program::Activations::kW4a16,
                                         program::Activations::kW4a8),
                         [](const auto& mode) {
                           return std::string(program::activations_name(mode.param));
                         });

TEST_P(GpuTextsIn, AreTheSameWithEveryDrafterWidthAndCompany) {
  auto requests = make_requests({0, 4, 8}, 40);
  const auto expected = reference_texts(&requests, on_gpu({}, GetParam()));
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  for (const uint32_t width : {8u, 16u, 32u}) {
    for (const DrafterOptions& drafter : all_drafters()) {
      check(on_gpu({drafter, width}, GetParam()), requests, expected, width == 8);
    }
    check(on_gpu(dflash.setup(8, width, test::kGpuWorkers), GetParam()), requests, expected,
          width == 8);
    check(on_gpu(mtp_setup(mtp.path(), width, test::kGpuWorkers), GetParam()), requests, expected,
          width == 8);
  }
}

// Of a model whose dense matrices have pages: FP8, o_proj and head BF16. 72 columns are two groups.
TEST_F(GpuTexts, OfDensePagesAreTheSameToo) {
  test::GeneratorOptions generator = test::paged_checkpoint(tensor::WeightFormat::kFp8Block128);
  generator.output_projection_format = generator.embedding_format = tensor::WeightFormat::kBf16;
  generator.vocab_size = 12'288;  // of the golden prompts
  generator.num_mtp_layers = 1;
  const test::TemporaryDirectory directory;
  ASSERT_TRUE(write_checkpoint(directory.path(), generator));
  const auto setup_of = [&](const DrafterOptions& drafter, uint32_t width) {
    engine::Setup setup{drafter, width};
    if (drafter.kind == DrafterKind::kMtp) setup.block_size = 2;
    setup.directory = directory.path();
    return on_gpu(setup, program::Activations::kW4a8);
  };
  auto requests = make_requests({0, 4}, 24);
  const auto expected = reference_texts(&requests, setup_of({}, 8));
  for (const uint32_t width : {8u, 16u, 72u}) {
    for (const DrafterOptions& drafter :
         {DrafterOptions{DrafterKind::kNone, 1}, DrafterOptions{DrafterKind::kSuffix, 1},
          DrafterOptions{DrafterKind::kReplay, 3}, DrafterOptions{DrafterKind::kMtp, 1}}) {
      check(setup_of(drafter, width), requests, expected, width == 8);
    }
  }
}

// Where the two differ by rounding alone, so do their greedy texts only at a near tie: there is
// none in these.
TEST_F(GpuTexts, GreedyOnesAreTheProcessors) {
  auto requests = make_requests({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 64);
  std::erase_if(requests, [](const Request& r) { return r.params.sampling.temperature > 0; });
  const auto expected = reference_texts(&requests);
  const auto seen = reference_texts(&requests, on_gpu({}));
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(seen[i].tokens, expected[i].tokens) << "golden prompt " << i;
    for (size_t k = 0; k < seen[i].logprobs.size(); ++k) {
      EXPECT_NEAR(seen[i].logprobs[k], expected[i].logprobs[k], 1e-4F);
    }
  }
}

// Drafts that are drawn, at a temperature at which some are accepted, and what rejection makes of
// them: alone the same on both, whatever the width. Only a draw near a tie could differ.
TEST_F(GpuTexts, DrawnDraftsAreTheProcessors) {
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  auto requests = make_requests({0, 4, 8}, 32);
  for (Request& request : requests) {
    request.params.sampling = {};
    request.params.sampling.temperature = 20;
    request.params.sampling.top_k = 4000;
    request.params.sampling.seed = request.prompt.size();
    request.params.sampling.acceptance = Acceptance::kRejection;
  }
  for (auto setup : {dflash.setup(8, 8, 2), mtp_setup(mtp.path(), 8, 2)}) {
    SpeculationStats stats;
    std::vector<Text> expected;
    const auto on_cpu = open(setup);
    for (const Request& request : requests) {
      expected.push_back(generate(*on_cpu, {request}, &stats).front());
    }
    for (setup.decode_width = 8; setup.decode_width <= 16; setup.decode_width += 8) {
      const auto engine = open(on_gpu(setup));
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(generate(*engine, {requests[i]}, &stats).front().tokens, expected[i].tokens);
      }
    }
    EXPECT_GT(stats.accepted_length(), 1.2);
  }
}

// A fork has the prompt's pages and a copy of its rings, and gives the same text.
TEST_P(GpuTextsIn, ForksGoOnAlike) {
  auto requests = make_requests({1}, 24);
  const auto expected = reference_texts(&requests, on_gpu({}, GetParam()));
  const auto engine = open(on_gpu({{DrafterKind::kSuffix, 1}, 16}, GetParam()));
  std::map<SessionId, Text> texts;
  const SessionId first = engine->start(requests[0].prompt, requests[0].params).value();
  run_prompt(*engine, requests[0].prompt.size(), &texts);
  const auto fork = engine->fork(first, requests[0].params.sampling.seed);
  ASSERT_TRUE(fork) << fork.error().message;
  SpeculationStats stats;
  run(*engine, &texts, &stats);
  EXPECT_EQ(texts[first], expected[0]);
  EXPECT_EQ(texts[*fork], expected[0]);
}

// A model whose caches of bf16 and fp8 are tiles, with prompts within a chunk and beyond, longer
// than the window.
class GpuTextsOfTiles : public GpuTexts, public testing::WithParamInterface<program::KvCacheType> {
 protected:
  void SetUp() override {
    GpuTexts::SetUp();
    EXPECT_TRUE(test::write_checkpoint(model_.path(), test::tile_options()));
  }
  engine::Setup on_tiles(const DrafterOptions& drafter, uint32_t width) const {
    engine::Setup setup{drafter, width};
    if (drafter.kind == DrafterKind::kMtp) setup.block_size = 2;
    setup.directory = model_.path();
    return on_gpu(setup, activations_, GetParam());
  }
  static std::vector<Request> requests() {
    std::vector<Request> requests;
    for (const uint32_t length : {9u, 150u, 620u}) {
      Request& request = requests.emplace_back();
      for (uint32_t i = 0; i < length; ++i) {
        request.prompt.push_back(static_cast<int32_t>((i * 37 + i / 7 + length) % 256));
      }
      request.params.max_tokens = 40;
      request.params.sampling.temperature = length == 150 ? 0.8F : 0.0F;
      request.params.sampling.seed = length;
    }
    return requests;
  }

  program::Activations activations_ = program::Activations::kF32;
  const test::TemporaryDirectory model_;
};

INSTANTIATE_TEST_SUITE_P(Types, GpuTextsOfTiles,
                         testing::Values(program::KvCacheType::kBf16, program::KvCacheType::kFp8),
                         [](const auto& type) {
                           return std::string(program::kv_cache_type_name(type.param));
                         });

TEST_P(GpuTextsOfTiles, AreTheSameWithEveryDrafterWidthAndCompany) {
  auto all = requests();
  const auto expected = reference_texts(&all, on_tiles({}, 8));
  for (const uint32_t width : {8u, 16u, 64u}) {
    for (const DrafterOptions& drafter : {DrafterOptions{DrafterKind::kNone, 1},
                                          {DrafterKind::kSuffix, 1},
                                          {DrafterKind::kReplay, 3},
                                          {DrafterKind::kReplay, 8}}) {
      check(on_tiles(drafter, width), all, expected, width == 8);
    }
  }
}

// A fork has tiles of pages that it shares, copies of the last page's, and of the rings'.
TEST_P(GpuTextsOfTiles, ForksGoOnAlike) {
  auto all = requests();
  all.erase(all.begin(), all.begin() + 1);
  const auto expected = reference_texts(&all, on_tiles({}, 8));
  for (size_t i = 0; i < all.size(); ++i) {
    const auto engine = open(on_tiles({DrafterKind::kSuffix, 1}, 16));
    std::map<SessionId, Text> texts;
    const SessionId first = engine->start(all[i].prompt, all[i].params).value();
    run_prompt(*engine, all[i].prompt.size(), &texts);
    const auto fork = engine->fork(first, all[i].params.sampling.seed);
    ASSERT_TRUE(fork) << fork.error().message;
    SpeculationStats stats;
    run(*engine, &texts, &stats);
    EXPECT_EQ(texts[first], expected[i]);
    EXPECT_EQ(texts[*fork], expected[i]);
  }
}

// Tiles and pages at once: the kernels of a fast run. Each setup opens a model of 90 million
// weights, so these are few.
class GpuTextsOfPagedTiles : public GpuTextsOfTiles {
 protected:
  void SetUp() override {
    GpuTexts::SetUp();
    if (IsSkipped()) return;
    activations_ = program::Activations::kW4a8;
    ASSERT_TRUE(test::write_checkpoint(model_.path(), test::paged_tile_options()));
  }
};

INSTANTIATE_TEST_SUITE_P(Types, GpuTextsOfPagedTiles,
                         testing::Values(program::KvCacheType::kBf16, program::KvCacheType::kFp8),
                         [](const auto& type) {
                           return std::string(program::kv_cache_type_name(type.param));
                         });

TEST_P(GpuTextsOfPagedTiles, AreTheSameWithEveryDrafterWidthAndCompany) {
  auto all = requests();
  const auto expected = reference_texts(&all, on_tiles({}, 8));
  const std::pair<uint32_t, DrafterOptions> setups[] = {{8, {DrafterKind::kSuffix, 1}},
                                                        {16, {DrafterKind::kReplay, 3}},
                                                        {16, {DrafterKind::kMtp, 1}},
                                                        {64, {DrafterKind::kNone, 1}},
                                                        {64, {DrafterKind::kReplay, 8}}};
  for (const auto& [width, drafter] : setups) {
    check(on_tiles(drafter, width), all, expected, width != 64);
  }
}

// Needs no GPU: all that this model multiplies has pages, but for routers and what joins the two
// inputs of an MTP layer, and all caches are tiles.
TEST(PagedTiles, HavePagesAndTiles) {
  const test::TemporaryDirectory model;
  ASSERT_TRUE(test::write_checkpoint(model.path(), test::paged_tile_options()));
  std::vector<program::Program> programs;
  for (const uint32_t width : {8u, 64u}) {
    test::RunnerOptions options;
    options.width = width;
    options.has_mtp = true;
    const auto runner = test::ModelRunner::open(model.path(), options);
    ASSERT_TRUE(runner) << runner.error().message;
    programs.push_back(runner->program());
  }
  const auto forms =
      cuda::weight_forms(programs, {program::Activations::kW4a8, program::KvCacheType::kBf16, {}});
  uint32_t num_canonical = 0;
  for (const program::Stage& stage : programs[0].stages) {
    std::visit(
        [&](const auto& op) {
          if constexpr (requires { op.weight; }) {
            num_canonical += forms[op.weight] == cuda::WeightForm::kCanonical ? 1 : 0;
          }
        },
        stage.operands);
  }
  EXPECT_EQ(num_canonical, 2u);  // a router, eh_proj
  for (const auto type : {program::KvCacheType::kBf16, program::KvCacheType::kFp8}) {
    const auto caches = cuda::cache_forms(programs, type);
    EXPECT_EQ(caches.size(), 3u);  // two layers, the MTP layer
    EXPECT_EQ(std::ranges::count(caches, cuda::CacheForm::kRows), 0);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
