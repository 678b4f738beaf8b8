#include "apps/executor_choice.h"

#include <gtest/gtest.h>

namespace ultraspeed::apps {
namespace {

TEST(ExecutorChoice, ModelsThatCachesHoldStayOnTheProcessor) {
  const auto chosen = choose_executor({.threads = 4, .ranks = 2}, 1 << 20);
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_EQ(chosen->limits.name, kProcessor);
  EXPECT_EQ(chosen->limits.num_workers, 2u);
}

TEST(ExecutorChoice, AGpuRefusesAModeThatItDoesNotHave) {
  const auto chosen = choose_executor(
      {.kind = ExecutorKind::kGraph, .activations = program::Activations::kInt8}, 1 << 20);
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(chosen.error().message.find("--executor cpu"), std::string::npos);
}

TEST(ExecutorChoice, ThePersistentExecutorHasTwoModes) {
  using program::Activations;
  const auto error_of = [](const ExecutorOptions& options) {
    const auto chosen = choose_executor(options, 1 << 20);
    return chosen ? std::string("none") : chosen.error().message;
  };
  ExecutorOptions options = {.kind = ExecutorKind::kPersistent, .activations = Activations::kW4a16};
  EXPECT_EQ(error_of(options),
            "--executor persistent has f32 and w4a8 activations; --activations w4a16 needs "
            "--executor graph");
  options = {.kind = ExecutorKind::kPersistent, .kv_cache = program::KvCacheType::kFp8};
  EXPECT_EQ(error_of(options),
            "--executor persistent has an f32 KV cache with f32 activations; --kv-cache fp8 needs "
            "--activations w4a8, or --executor graph");
  options = {.kind = ExecutorKind::kPersistent};
  EXPECT_EQ(mode_text(modes_on(options, "NVIDIA H100", uint64_t{1} << 40)),
            "w4a8 activations, bf16 KV cache");
  EXPECT_EQ(mode_text(modes_on(options, "NVIDIA H100", 1 << 20)), "f32 activations");
  options.activations = Activations::kF32;
  EXPECT_EQ(mode_text(modes_on(options, "NVIDIA H100", uint64_t{1} << 40)), "f32 activations");
}

// Where auto would want a GPU, too.
TEST(ExecutorChoice, ThatModeRunsOnTheProcessor) {
  const auto chosen =
      choose_executor({.activations = program::Activations::kInt8}, uint64_t{1} << 40);
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_EQ(chosen->limits.name, kProcessor);
}

TEST(ModeText, NamesWhatIsRounded) {
  using program::Activations;
  using program::KvCacheType;
  EXPECT_EQ(mode_text({}), "f32 activations");
  EXPECT_EQ(mode_text({Activations::kW4a8, KvCacheType::kFp8, model::DenseDtype::kCheckpoint}),
            "w4a8 activations, fp8 KV cache");
  EXPECT_EQ(mode_text({Activations::kF32, KvCacheType::kF32, model::DenseDtype::kFp8}),
            "f32 activations, fp8 dense weights");
}

// Asked for nothing, a GPU is exact only where that costs nobody much.
TEST(ExecutorChoice, LargeModelsOnAGpuAreRoundedUnlessAskedOtherwise) {
  using program::Activations;
  using program::KvCacheType;
  constexpr uint64_t kSmall = uint64_t{256} << 20, kLarge = kSmall + 1;
  EXPECT_EQ(mode_text(modes_on({}, kProcessor, kLarge)), "f32 activations");
  EXPECT_EQ(mode_text(modes_on({}, "NVIDIA H100", kSmall)), "f32 activations");
  EXPECT_EQ(mode_text(modes_on({}, "NVIDIA H100", kLarge)), "w4a8 activations, bf16 KV cache");
  EXPECT_EQ(mode_text(modes_on({.activations = Activations::kF32}, "NVIDIA H100", kLarge)),
            "f32 activations, bf16 KV cache");
  EXPECT_EQ(mode_text(modes_on({.activations = Activations::kF32, .kv_cache = KvCacheType::kF32},
                               "NVIDIA H100", kLarge)),
            "f32 activations");
  EXPECT_EQ(mode_text(modes_on({.kv_cache = KvCacheType::kFp8}, kProcessor, kSmall)),
            "f32 activations, fp8 KV cache");
}

// With a GPU it is chosen, without one the error says what is missing.
TEST(ExecutorChoice, AnExplicitGpuIsNotReplaced) {
  const auto chosen = choose_executor({.kind = ExecutorKind::kGraph}, 1 << 20);
  if (chosen) {
    EXPECT_NE(chosen->limits.name, kProcessor);
  } else {
    EXPECT_TRUE(chosen.error().code == ErrorCode::kNotFound ||
                chosen.error().code == ErrorCode::kUnsupported);
  }
}

TEST(ExecutorChoice, AutoGoesToTheProcessorWhenTheGpuCannot) {
  const Error too_small{ErrorCode::kOutOfMemory, "needs 600 GB"};
  const auto next = next_choice({}, "NVIDIA H100", too_small);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->kind, ExecutorKind::kCpu);
  EXPECT_TRUE(next_choice({}, "NVIDIA H100", {ErrorCode::kUnsupported, "heads of 1024"}));
  EXPECT_FALSE(next_choice({}, kProcessor, too_small)) << "it was the last";
  EXPECT_FALSE(next_choice({.kind = ExecutorKind::kGraph}, "NVIDIA H100", too_small));
  EXPECT_FALSE(next_choice({}, "NVIDIA H100", {ErrorCode::kInvalidData, "a NaN scale"}));
}

}  // namespace
}  // namespace ultraspeed::apps
