// An exported folder opens, says of itself what the net was, and drafts in the engine what the net
// drafts with its rounded weights; and LibTorch itself reads the mask embedding.
#include "train/drafter_export.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>

#include "model/drafter.h"
#include "support/temporary_directory.h"
#include "train/engine_drafter.h"
#include "train/fp8_rounding.h"
#include "train/net_weights.h"
#include "train/selector.h"

namespace ultraspeed::test {
namespace {

using train::LinearFormat;

const std::vector<int32_t> kText = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95};

// For the generated target of EngineDrafter. Values of other sizes than keys.
model::DrafterConfig drafter_config() {
  model::DrafterConfig config;
  config.file = "config.json";
  config.hidden_size = 256;
  config.intermediate_size = 192;
  config.num_layers = 2;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 48;
  config.v_head_dim = 32;
  config.rotary_dim = 16;  // a third of head_dim
  config.vocab_size = 256;
  config.block_size = 8;
  config.mask_token_id = 9;
  config.has_mask_embedding = true;
  config.sliding_window = 6;
  config.has_window_before_anchor = true;
  config.layers = {{6, false}, {6, false}};
  config.num_target_layers = 4;
  config.target_layer_ids = {0, 2, 3};
  config.rope_theta = 12345;
  config.rms_norm_eps = 1e-5F;
  config.attention_value_scale = 0.707F;
  config.has_sink = true;
  return config;
}

model::DrafterConfig selecting_config() {
  model::DrafterConfig config = drafter_config();
  config.selector = {24, 16};
  return config;
}

train::DrafterNet random_net(const model::DrafterConfig& config) {
  train::DrafterNet net(config, {}, 5);
  torch::manual_seed(6);
  const torch::NoGradGuard no_grad;
  for (const train::Parameter& p : net.parameters()) {
    if (p.kind == train::ParameterKind::kVector) {
      net.set(p.name, p.value + torch::randn_like(p.value) * 0.3);
    }
    // The tables' rows are of length 1 or so.
    if (p.is_of_selector() && !p.name.ends_with("hidden_proj.weight")) {
      net.set(p.name, torch::randn_like(p.value));
    }
  }
  return net;
}

// The net that the files stand for.
void round(LinearFormat format, train::DrafterNet* net) {
  const torch::NoGradGuard no_grad;
  for (const train::Parameter& p : net->parameters()) {
    const bool is_fp8 = format == LinearFormat::kFp8 && p.kind == train::ParameterKind::kMatrix &&
                        !p.is_of_selector();
    net->set(p.name, is_fp8 ? train::round_to_fp8(p.value)
                            : p.value.to(torch::kBFloat16).to(torch::kFloat32));
  }
}

TEST(DrafterExport, TheEngineDraftsWhatTheNetDoes) {
  for (const LinearFormat format : {LinearFormat::kBf16, LinearFormat::kFp8}) {
    const TemporaryDirectory directory;
    train::DrafterNet net = random_net(drafter_config());
    const Status status = train::export_drafter(net, directory.path(), format);
    ASSERT_TRUE(status.has_value()) << status.error().message;
    round(format, &net);
    DrafterOptions options;
    options.block_size = 8;
    const EngineDrafter engine(directory.path(), options);
    for (const size_t length : {4, 16}) {
      const std::vector<int32_t> text(kText.begin(),
                                      kText.begin() + static_cast<ptrdiff_t>(length));
      const EngineBlock block = engine.draft(text);
      const torch::NoGradGuard no_grad;
      const torch::Tensor logits =
          net.forward(block_batch(block.features, text, {static_cast<int64_t>(length) - 1},
                                  engine.embedding()))
              .squeeze(0)
              .narrow(0, 1, 7)
              .matmul(engine.head().t());
      const double difference =
          ((logits - block.logits).abs().max() / block.logits.abs().max()).item<double>();
      EXPECT_LT(difference, 1e-4) << static_cast<int>(format) << ", " << length;
      EXPECT_TRUE(torch::equal(logits.argmax(-1), torch::tensor(block.ids, torch::kInt64)));
    }
  }
}

// With a selector, the tokens that the net's walk chooses.
TEST(DrafterExport, TheEngineChoosesWhatTheSelectorDoes) {
  const TemporaryDirectory directory;
  train::DrafterNet net = random_net(selecting_config());
  ASSERT_TRUE(train::export_drafter(net, directory.path(), LinearFormat::kFp8).has_value());
  round(LinearFormat::kFp8, &net);
  DrafterOptions options;
  options.block_size = 8;
  const EngineDrafter engine(directory.path(), options);
  const train::Selector selector = train::selector_of(net, engine.embedding(), engine.head());
  int64_t num_unlike_likeliest = 0;
  for (const size_t length : {3, 9, 16}) {
    const std::vector<int32_t> text(kText.begin(), kText.begin() + static_cast<ptrdiff_t>(length));
    const EngineBlock block = engine.draft(text);
    const torch::NoGradGuard no_grad;
    const torch::Tensor rows =
        net.forward(block_batch(block.features, text, {static_cast<int64_t>(length) - 1},
                                engine.embedding()))
            .narrow(1, 1, 7);
    const torch::Tensor logits = rows.matmul(engine.head().t());
    const torch::Tensor anchor = torch::tensor({int64_t{text.back()}});
    const torch::Tensor chosen = train::choose(selector, logits, anchor, rows).squeeze(0);
    EXPECT_TRUE(torch::equal(chosen, torch::tensor(block.ids, torch::kInt64)))
        << chosen << logits.argmax(-1);
    num_unlike_likeliest += (chosen != logits.squeeze(0).argmax(-1)).sum().item<int64_t>();
  }
  EXPECT_GT(num_unlike_likeliest, 10);
}

TEST(DrafterExport, TheFolderOpensAndSaysWhatTheNetWas) {
  const model::DrafterConfig config = selecting_config();
  for (const LinearFormat format : {LinearFormat::kBf16, LinearFormat::kFp8}) {
    const TemporaryDirectory directory;
    train::DrafterNet net = random_net(config);
    ASSERT_TRUE(train::export_drafter(net, directory.path(), format).has_value());
    const auto drafter = model::Drafter::open(directory.path());
    ASSERT_TRUE(drafter.has_value()) << drafter.error().message;
    EXPECT_TRUE(drafter->check_complete().has_value());
    const model::DrafterConfig& read = drafter->config();
    EXPECT_EQ(read.rotary_dim, config.rotary_dim);
    EXPECT_EQ(read.v_head_dim, config.v_head_dim);
    EXPECT_EQ(read.rope_theta, config.rope_theta);
    EXPECT_EQ(read.rms_norm_eps, config.rms_norm_eps);
    EXPECT_EQ(read.attention_value_scale, config.attention_value_scale);
    EXPECT_EQ(read.target_layer_ids, config.target_layer_ids);
    EXPECT_EQ(read.num_target_layers, config.num_target_layers);
    EXPECT_EQ(read.block_size, config.block_size);
    EXPECT_EQ(read.mask_token_id, config.mask_token_id);
    EXPECT_EQ(read.selector.rank, 24u);
    EXPECT_EQ(read.selector.num_candidates, 16u);
    EXPECT_TRUE(read.has_sink && read.has_window_before_anchor && read.has_mask_embedding);
    EXPECT_TRUE(train::check_trainable(read).has_value());
    for (const auto& layer : read.layers) EXPECT_EQ(layer.sliding_window, 6u);
    // Every weight, through the loader.
    const train::DrafterNet loaded = net_of(directory.path(), {});
    round(format, &net);
    for (const train::Parameter& p : net.parameters()) {
      EXPECT_TRUE(torch::equal(p.value, loaded.at(p.name))) << p.name;
    }
    const uint64_t bytes = train::exported_bytes(net, format);
    const uint64_t file = std::filesystem::file_size(directory.path() + "/model.safetensors");
    EXPECT_NEAR(static_cast<double>(file), static_cast<double>(bytes), 6000.0);
  }
}

TEST(DrafterExport, LayersWithoutWindowsAndSinksStayWithout) {
  model::DrafterConfig config = drafter_config();
  config.layers = {{0, false}, {0, false}};
  config.sliding_window = 0;
  config.has_sink = false;
  config.rotary_dim = 48;
  const auto read =
      model::DrafterConfig::parse("x", drafter_config_json(config, LinearFormat::kBf16));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_FALSE(read->has_sink);
  EXPECT_EQ(read->sliding_window, 0u);
  EXPECT_EQ(read->layers[0].sliding_window, 0u);
  EXPECT_FALSE(read->layers[1].is_causal);
  EXPECT_EQ(read->rotary_dim, 48u);
}

TEST(DrafterExport, LibTorchReadsTheMaskEmbedding) {
  const std::vector<float> values = {1.5F, -2.0F, 0.0F, 3.140625F};
  const std::string file = train::mask_embedding_file("x", 9, values).value();
  const std::vector<char> bytes(file.begin(), file.end());
  const auto dict = torch::jit::pickle_load(bytes).toGenericDict();
  EXPECT_EQ(dict.at("mask_token_id").toInt(), 9);
  const torch::Tensor embedding = dict.at("embedding").toTensor();
  EXPECT_EQ(embedding.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(embedding.to(torch::kFloat32), torch::tensor(values)));
}

TEST(DrafterExport, RefusesWhatIsNotFinite) {
  const TemporaryDirectory directory;
  train::DrafterNet net = random_net(drafter_config());
  net.set("fc.weight", torch::full_like(net.at("fc.weight"), NAN));
  const auto status = train::export_drafter(net, directory.path(), LinearFormat::kFp8);
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("'fc.weight' has a number"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
