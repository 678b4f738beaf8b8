// The net equals the engine's draft part, for windows shorter and longer than the context; and what
// a batch holds beside a block does not change it.
#include <gtest/gtest.h>

#include "support/temporary_directory.h"
#include "train/engine_drafter.h"
#include "train/net_weights.h"

namespace ultraspeed::test {
namespace {

constexpr double kTolerance = 1e-4;  // relative to the largest logit
const std::vector<int32_t> kText = {3,  141, 59, 26, 53, 58, 97, 93, 23, 84,  62, 64, 33, 83,
                                    27, 95,  2,  88, 41, 97, 16, 93, 99, 200, 7,  50, 58, 209};

class DrafterNetEngine : public testing::Test {
 protected:
  void write(const DrafterOptions& options) {
    options_ = options;
    const auto written = write_drafter(directory_.path(), options);
    ASSERT_TRUE(written.has_value()) << written.error().message;
    engine_.emplace(directory_.path(), options);
    net_.emplace(net_of(directory_.path(), {}));
  }

  torch::Tensor logits(const train::BlockBatch& batch) const {
    const torch::NoGradGuard no_grad;
    const torch::Tensor hidden = net_->forward(batch);
    return hidden.narrow(1, 1, hidden.size(1) - 1).matmul(engine_->head().t());
  }

  static double difference(const torch::Tensor& a, const torch::Tensor& b) {
    return ((a - b).abs().max() / b.abs().max()).item<double>();
  }

  std::vector<int32_t> first(size_t count) const {
    return {kText.begin(), kText.begin() + static_cast<ptrdiff_t>(count)};
  }

  TemporaryDirectory directory_;
  DrafterOptions options_;
  std::optional<EngineDrafter> engine_;
  std::optional<train::DrafterNet> net_;
};

TEST_F(DrafterNetEngine, BlocksEqualThoseOfTheEngine) {
  for (const uint32_t window : {5u, 12u, 100u}) {
    DrafterOptions options;
    options.sliding_window = window;
    write(options);
    for (const size_t length : {2, 9, 14, 28}) {
      const EngineBlock block = engine_->draft(first(length));
      const auto anchor = static_cast<int64_t>(length) - 1;
      const torch::Tensor ours =
          logits(block_batch(block.features, kText, {anchor}, engine_->embedding())).squeeze(0);
      EXPECT_LT(difference(ours, block.logits), kTolerance) << window << ", " << length;
      const torch::Tensor ids = torch::tensor(block.ids, torch::kInt64);
      EXPECT_TRUE(torch::equal(ours.argmax(-1), ids)) << window << ", " << length;
    }
  }
}

// All blocks of two sequences in one pass; features of and behind the anchor are there, and unseen.
TEST_F(DrafterNetEngine, ABlockDoesNotSeeOtherBlocksSequencesOrItsAnchorsFeatures) {
  for (const uint32_t window : {12u, 100u}) {  // less and more than there are rows
    DrafterOptions options;
    options.sliding_window = window;
    write(options);
    const torch::Tensor features = engine_->draft(kText).features;
    const torch::Tensor noise = torch::randn_like(features) * 100;
    train::BlockBatch batch =
        block_batch(torch::cat({noise, features}), kText, {3, 14, 20, 27}, engine_->embedding());
    const int64_t rows = features.size(0);
    batch.positions = torch::arange(rows, torch::kInt64).repeat({2});
    batch.sequence_begin = torch::full({4}, rows, torch::kInt64);
    batch.anchor_row = batch.anchor_row + rows;
    const torch::Tensor together = logits(batch);
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t anchor = batch.anchor_row[i].item<int64_t>() - rows;
      const EngineBlock block = engine_->draft(first(static_cast<size_t>(anchor) + 1));
      EXPECT_LT(difference(together[i], block.logits), kTolerance) << window << ", " << anchor;
    }
  }
}

// The comparison notices.
TEST_F(DrafterNetEngine, AWindowOffByOneShows) {
  write({});
  const EngineBlock block = engine_->draft(kText);
  for (const int shift : {-1, 1}) {
    model::DrafterConfig config = net_->config();
    for (auto& layer : config.layers) layer.sliding_window += static_cast<uint32_t>(shift);
    train::DrafterNet other(config, {}, 1);
    for (const train::Parameter& p : net_->parameters()) other.set(p.name, p.value);
    const auto batch = block_batch(block.features, kText, {27}, engine_->embedding());
    const torch::NoGradGuard no_grad;
    const torch::Tensor ours =
        other.forward(batch).squeeze(0).narrow(0, 1, 7).matmul(engine_->head().t());
    EXPECT_GT(difference(ours, block.logits), 10 * kTolerance) << shift;
  }
}

TEST_F(DrafterNetEngine, RefusesFormsThatItHasNoArithmeticFor) {
  model::DrafterConfig config;
  config.file = "x/config.json";
  config.layers = {{16, false}};
  EXPECT_NE(train::check_trainable(config).error().message.find("x/config.json: a window of each"),
            std::string::npos);
  config.has_window_before_anchor = true;
  EXPECT_TRUE(train::check_trainable(config).has_value());
  config.layers[0].is_causal = true;
  EXPECT_NE(train::check_trainable(config).error().message.find("causal inside the block"),
            std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
