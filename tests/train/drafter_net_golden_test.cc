// The net equals the stock implementation of a z-lab drafter: blocks of qwen3_dflash from given
// features, all in one pass.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "model/checkpoint.h"
#include "support/reference_folder.h"
#include "train/engine_drafter.h"
#include "train/net_weights.h"

namespace ultraspeed::test {
namespace {

torch::Tensor table(const std::string& directory, const char* name) {
  const auto target = model::Checkpoint::open(directory + "/target").value();
  const auto info = target.find(name).value().info;
  torch::Tensor values = torch::empty({512, 128}, torch::kBFloat16);
  US_CHECK(info->bytes == 512 * 128 * 2, "{} has {} bytes", name, info->bytes);
  const std::span<std::byte> bytes(static_cast<std::byte*>(values.data_ptr()), info->bytes);
  US_CHECK(target.read(name, bytes).has_value(), "{}", name);
  return values.to(torch::kFloat32);
}

TEST(DrafterNetGolden, BlocksEqualTheStockImplementation) {
  const std::string directory = reference_folder("qwen3_dflash").value();
  std::ifstream stream(directory + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(stream);
  const auto tokens = golden.at("token_ids").get<std::vector<int32_t>>();
  const auto file =
      model::SafetensorsFile::open(directory + "/golden_features.safetensors").value();
  const model::TensorInfo& info = file.header().tensors.at("features");
  std::vector<float> features(info.bytes / sizeof(float));
  ASSERT_TRUE(file.read(info.offset, std::as_writable_bytes(std::span(features))).has_value());

  const train::DrafterNet net = net_of(directory, {});
  const torch::Tensor embedding = table(directory, "model.embed_tokens.weight");
  std::vector<int64_t> anchors;
  for (const auto& block : golden.at("blocks")) anchors.push_back(block.at("start").get<int64_t>());
  ASSERT_EQ(anchors.size(), 5u);
  train::BlockBatch batch = block_batch(
      tensor_of(features, {static_cast<int64_t>(tokens.size()), -1}), tokens, anchors, embedding);
  batch.mask = embedding[3];
  const torch::NoGradGuard no_grad;
  const torch::Tensor hidden = net.forward(batch);
  const torch::Tensor logits = hidden.matmul(table(directory, "lm_head.weight").t());
  double largest = 0;
  for (int64_t b = 0; b < 5; ++b) {
    const auto& block = golden.at("blocks").at(static_cast<size_t>(b));
    for (int64_t row = 0; row < 8; ++row) {
      const auto r = static_cast<size_t>(row);
      const double norm = hidden[b][row].norm().item<double>();
      const double expected = block.at("hidden_row_norms").at(r).get<double>();
      largest = std::max(largest, std::abs(norm - expected) / expected);
      const auto ids = block.at("top10_ids").at(r).get<std::vector<int64_t>>();
      const auto top = block.at("top10_logits").at(r).get<std::vector<double>>();
      for (size_t i = 0; i < ids.size(); ++i) {
        const double logit = logits[b][row][ids[i]].item<double>();
        largest = std::max(largest, std::abs(logit - top[i]));
      }
    }
  }
  std::printf("largest difference of 5 blocks: %.2g\n", largest);
  EXPECT_LT(largest, 1e-4);
}

}  // namespace
}  // namespace ultraspeed::test
