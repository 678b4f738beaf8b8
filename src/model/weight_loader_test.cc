// WeightLoader: every layout loads to exactly the numbers it was made from, whole and in shards,
// and every malformed tensor is named.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "model/checkpoint.h"
#include "model/weights.h"
#include "support/checkpoint_generator.h"
#include "support/dequantize.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;
using test::DenseWeight;
using test::GeneratedCheckpoint;
using test::GeneratorOptions;
using test::TemporaryDirectory;

// A checkpoint on disk, opened.
struct Opened {
  TemporaryDirectory directory;
  GeneratedCheckpoint generated;
  ModelConfig config;
  std::optional<Checkpoint> checkpoint;

  explicit Opened(const GeneratorOptions& options)
      : Opened(options, test::generate_checkpoint(options)) {}
  Opened(const GeneratorOptions& options, GeneratedCheckpoint contents)
      : generated(std::move(contents)) {
    EXPECT_TRUE(test::write_checkpoint(directory.path(), options, generated).has_value());
    auto parsed = ModelConfig::load(directory.path());
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    config = parsed.value_or(ModelConfig{});
    auto opened = Checkpoint::open(directory.path());
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    if (opened) checkpoint = std::move(*opened);
  }

  WeightLoader loader() const { return WeightLoader(*checkpoint, config); }
};

Result<std::vector<float>> load_dense(const WeightLoader& loader, const WeightSource& source) {
  US_ASSIGN(const WeightShape shape, loader.shape(source));
  std::vector<std::byte> packed(shape.bytes);
  US_TRY(loader.load(source, packed));
  return test::dequantize(shape, packed);
}

// The q heads of a shard and the k and v heads that these use, head by head.
std::vector<float> expected_heads(const Opened& opened, const WeightSource& source) {
  const DenseWeight& whole = opened.generated.at(source.role, source.layer);
  const LayerConfig& layer = opened.config.layers[source.layer];
  const uint32_t shard_q = layer.num_q_heads / source.num_shards;
  std::vector<float> values;
  const auto append = [&](uint32_t first_row, uint32_t rows) {
    const auto from = whole.values.begin() + static_cast<ptrdiff_t>(first_row) * whole.columns;
    values.insert(values.end(), from, from + static_cast<ptrdiff_t>(rows) * whole.columns);
  };
  std::set<uint32_t> kv_heads;
  for (uint32_t q = source.shard * shard_q; q < (source.shard + 1) * shard_q; ++q) {
    append(q * layer.head_dim, layer.head_dim);
    kv_heads.insert(q / (layer.num_q_heads / layer.num_kv_heads));
  }
  const uint32_t first_v = layer.q_rows() + layer.k_rows();
  for (const uint32_t kv : kv_heads) append(layer.q_rows() + kv * layer.head_dim, layer.head_dim);
  for (const uint32_t kv : kv_heads) append(first_v + kv * layer.v_head_dim, layer.v_head_dim);
  return values;
}

// The rows and columns of a whole matrix that a shard must hold, by the description of TensorRole.
std::vector<float> expected_shard(const Opened& opened, const WeightSource& source) {
  const DenseWeight& whole = opened.generated.at(source.role, source.layer, source.expert);
  std::vector<std::pair<uint32_t, uint32_t>> sections = {{0, whole.rows}};  // begin, rows
  bool splits_columns = false;
  bool is_whole = false;
  switch (source.role) {
    case TensorRole::kQkvProj:
      return expected_heads(opened, source);
    case TensorRole::kDenseGateUp:
    case TensorRole::kExpertGateUp:
      sections = {{0, whole.rows / 2}, {whole.rows / 2, whole.rows / 2}};
      break;
    case TensorRole::kLmHead:
      break;
    case TensorRole::kEmbedding:
    case TensorRole::kOProj:
    case TensorRole::kDenseDown:
    case TensorRole::kExpertDown:
    case TensorRole::kAttentionSink:
      splits_columns = true;
      break;
    default:
      is_whole = true;
  }
  if (is_whole) return whole.values;
  const uint32_t columns = splits_columns ? whole.columns / source.num_shards : whole.columns;
  const uint32_t first_column = splits_columns ? source.shard * columns : 0;
  std::vector<float> values;
  for (const auto& [begin, rows] : sections) {
    const uint32_t count = splits_columns ? rows : rows / source.num_shards;
    const uint32_t first = begin + (splits_columns ? 0 : source.shard * count);
    for (uint32_t row = first; row < first + count; ++row) {
      const auto* from = &whole.values[size_t{row} * whole.columns + first_column];
      values.insert(values.end(), from, from + columns);
    }
  }
  return values;
}

void expect_loads_exactly(const Opened& opened, uint32_t num_shards) {
  const WeightLoader loader = opened.loader();
  const auto complete = loader.check_complete();
  ASSERT_TRUE(complete.has_value()) << complete.error().message;
  for (uint32_t shard = 0; shard < num_shards; ++shard) {
    for (const WeightSource& source : all_weights(opened.config, shard, num_shards)) {
      const auto values = load_dense(loader, source);
      ASSERT_TRUE(values.has_value()) << values.error().message;
      const std::vector<float> expected = expected_shard(opened, source);
      ASSERT_EQ(values->size(), expected.size()) << tensor_role_name(source.role);
      ASSERT_EQ(std::memcmp(values->data(), expected.data(), expected.size() * sizeof(float)), 0)
          << tensor_role_name(source.role) << " of layer " << source.layer << ", shard " << shard
          << " of " << num_shards;
    }
  }
}

GeneratorOptions options_of(QkvLayout layout, WeightFormat linear, WeightFormat expert) {
  GeneratorOptions options;
  options.qkv_layout = layout;
  options.linear_format = linear;
  options.expert_format = expert;
  return options;
}

// Widths that two FP8 ranks can share: 256 / 2 columns.
GeneratorOptions splittable(GeneratorOptions options) {
  options.intermediate_size = 256;
  options.moe_intermediate_size = 256;
  options.num_experts = 3;
  return options;
}

TEST(WeightLoader, LoadsEveryLayoutExactly) {
  const WeightFormat kFp8 = WeightFormat::kFp8Block128;
  const WeightFormat kBf16 = WeightFormat::kBf16;
  const WeightFormat kMxfp4 = WeightFormat::kMxfp4;
  for (const QkvLayout layout : {QkvLayout::kSplit, QkvLayout::kFused}) {
    for (const auto& [linear, expert] :
         {std::pair(kFp8, kMxfp4), std::pair(kFp8, kFp8), std::pair(kBf16, kMxfp4),
          std::pair(kBf16, kBf16), std::pair(WeightFormat::kF32, WeightFormat::kF32)}) {
      const GeneratorOptions options = options_of(layout, linear, expert);
      expect_loads_exactly(Opened(options), 1);
      if (linear == kFp8) expect_loads_exactly(Opened(splittable(options)), 2);
    }
  }
}

TEST(WeightLoader, LoadsShardedFilesWithMtpBlocks) {
  GeneratorOptions options =
      options_of(QkvLayout::kFused, WeightFormat::kFp8Block128, WeightFormat::kMxfp4);
  options.num_files = 5;
  options.num_mtp_layers = 2;
  options.seed = 7;
  expect_loads_exactly(Opened(options), 1);
}

TEST(WeightLoader, LoadsFp8EmbeddingsAndOutputProjections) {
  GeneratorOptions options = splittable({});
  options.embedding_format = WeightFormat::kFp8Block128;
  options.output_projection_format = WeightFormat::kFp8Block128;
  options.router_format = WeightFormat::kBf16;
  const Opened opened(options);
  expect_loads_exactly(opened, 1);
  expect_loads_exactly(opened, 2);
  const auto router = opened.loader().shape({TensorRole::kRouter, 1});
  ASSERT_TRUE(router.has_value());
  EXPECT_EQ(router->format, WeightFormat::kF32);
  EXPECT_EQ(opened.loader().shape({TensorRole::kEmbedding})->format, WeightFormat::kFp8Block128);
}

TEST(WeightLoader, LoadsATiedOutputHead) {
  GeneratorOptions options;
  options.tie_word_embeddings = true;
  const Opened opened(options);
  EXPECT_FALSE(opened.checkpoint->find("lm_head.weight").has_value());
  expect_loads_exactly(opened, 1);
}

TEST(WeightLoader, ServesSeveralThreads) {
  const Opened opened(
      options_of(QkvLayout::kFused, WeightFormat::kFp8Block128, WeightFormat::kMxfp4));
  const WeightLoader loader = opened.loader();
  const std::vector<WeightSource> sources = all_weights(opened.config, 0, 1);
  std::atomic<uint32_t> equal_count = 0;
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (const WeightSource& source : sources) {
        const auto values = load_dense(loader, source);
        if (values && *values == expected_shard(opened, source)) ++equal_count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal_count, 4 * sources.size());
}

uint64_t bytes_read(const Checkpoint& checkpoint) {
  uint64_t bytes = 0;
  for (const SafetensorsFile& file : checkpoint.files()) bytes += file.mapped().bytes_read();
  return bytes;
}

// Of each tensor its slice; vectors, routers and the scale grids of FP8, a 4096th of the codes, on
// all shards.
uint64_t slice_bytes(const Checkpoint& checkpoint, uint32_t num_shards) {
  uint64_t bytes = 0;
  for (const SafetensorsFile& file : checkpoint.files()) {
    for (const auto& tensor : file.header().tensors) {
      const std::string& name = tensor.first;
      const auto& info = tensor.second;
      const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
      const bool is_whole = has("norm.weight") || has("mlp.gate.") || has("scale_inv");
      bytes += is_whole ? info.bytes : info.bytes / num_shards;
    }
  }
  return bytes;
}

TEST(WeightLoader, EachShardReadsItsSliceAlone) {
  for (const QkvLayout layout : {QkvLayout::kSplit, QkvLayout::kFused}) {
    for (const WeightFormat expert : {WeightFormat::kMxfp4, WeightFormat::kBf16}) {
      GeneratorOptions options = test::eight_rank_options();
      options.qkv_layout = layout;
      options.expert_format = expert;
      const Opened opened(options);
      for (const uint32_t num_shards : {1U, 2U, 4U, 8U}) {
        for (uint32_t shard = 0; shard < num_shards; ++shard) {
          const uint64_t before = bytes_read(*opened.checkpoint);
          for (const WeightSource& source : all_weights(opened.config, shard, num_shards)) {
            ASSERT_TRUE(load_dense(opened.loader(), source));
          }
          EXPECT_EQ(bytes_read(*opened.checkpoint) - before,
                    slice_bytes(*opened.checkpoint, num_shards))
              << "shard " << shard << " of " << num_shards;
        }
      }
    }
  }
}

// V2-Flash: 384 k rows in 2 ranks of 192, each with 2 scale rows: 4 where a plain grid has 3.
TEST(WeightLoader, LoadsSplitGridsThatRestart) {
  GeneratorOptions options;
  options.head_dim = 192;
  options.v_head_dim = 128;
  options.restart_split_scale_grid = true;
  const Opened opened(options);
  EXPECT_EQ(
      opened.checkpoint->find("model.layers.0.self_attn.k_proj.weight_scale_inv")->info->shape,
      (std::vector<uint64_t>{4, 2}));
  expect_loads_exactly(opened, 1);
}

TEST(WeightLoader, LoadsBf16ScalesOfFp8) {
  GeneratorOptions options;
  options.has_bf16_scales = true;
  const Opened opened(options);
  EXPECT_EQ(
      opened.checkpoint->find("model.layers.0.self_attn.k_proj.weight_scale_inv")->info->dtype,
      Dtype::kBf16);
  expect_loads_exactly(opened, 1);
}

// Four ranks on a qkv that two ranks wrote cut inside its chunks; one rank joins them; of eight two
// each have the same kv head of layer 0.
TEST(WeightLoader, SplitsInsideFusedChunks) {
  GeneratorOptions options =
      options_of(QkvLayout::kFused, WeightFormat::kFp8Block128, WeightFormat::kMxfp4);
  options.num_kv_heads = 4;
  options.num_q_heads = 8;
  options.num_sliding_kv_heads = 8;
  const Opened four_chunks(options);
  for (const uint32_t layer : {0U, 1U}) {
    for (uint32_t num_shards : {1U, 2U, 4U, 8U}) {
      for (uint32_t shard = 0; shard < num_shards; ++shard) {
        const WeightSource source = {TensorRole::kQkvProj, layer, 0, shard, num_shards};
        const auto values = load_dense(four_chunks.loader(), source);
        ASSERT_TRUE(values.has_value()) << values.error().message;
        EXPECT_EQ(*values, expected_shard(four_chunks, source)) << shard << " of " << num_shards;
      }
    }
  }
}

// o_proj has 256 columns in FP8, two scales a row: four shards have a half of a block each. Its two
// kv heads go to two shards each.
TEST(WeightLoader, SharesHeadsAndScalesAmongFourRanks) {
  GeneratorOptions options;
  options.output_projection_format = WeightFormat::kFp8Block128;
  options.intermediate_size = 512;
  options.moe_intermediate_size = 128;
  expect_loads_exactly(Opened(options), 4);
}

TEST(WeightLoader, RejectsSplitsThatCutScaleBlocks) {
  GeneratorOptions options;
  options.output_projection_format = WeightFormat::kFp8Block128;
  options.v_head_dim = 96;
  const Opened opened(options);
  const WeightLoader loader = opened.loader();
  const auto fp8 = loader.shape({TensorRole::kOProj, 1, 0, 0, 4});
  ASSERT_FALSE(fp8.has_value());
  EXPECT_NE(fp8.error().message.find("96 columns; expected a multiple, or a part, of the 128"),
            std::string::npos)
      << fp8.error().message;
  EXPECT_TRUE(loader.shape({TensorRole::kExpertDown, 1, 0, 0, 2}).has_value());
  const auto mxfp4 = loader.shape({TensorRole::kExpertDown, 1, 0, 0, 4});
  ASSERT_FALSE(mxfp4.has_value());
  EXPECT_NE(mxfp4.error().message.find("16 columns; expected a multiple of the 32"),
            std::string::npos);
  const auto uneven = loader.shape({TensorRole::kLmHead, 0, 0, 0, 3});
  ASSERT_FALSE(uneven.has_value());
  EXPECT_NE(uneven.error().message.find("divide 256"), std::string::npos);
}

TEST(WeightLoader, ReportsATpSizeThatDoesNotDivideTheHeads) {
  const GeneratorOptions options =
      options_of(QkvLayout::kFused, WeightFormat::kFp8Block128, WeightFormat::kMxfp4);
  const Opened opened(options);
  ASSERT_TRUE(test::write_checkpoint_files(opened.directory.path(), opened.generated.tensors, 1,
                                           {{"tp_size", "3"}})
                  .has_value());
  const auto checkpoint = Checkpoint::open(opened.directory.path());
  ASSERT_TRUE(checkpoint.has_value());
  const auto status = WeightLoader(*checkpoint, opened.config).check_complete();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(status.error().message.find("3 chunks"), std::string::npos) << status.error().message;
}

// A number of the bundled model, as decoded from its files by an independent script.
struct Spot {
  TensorRole role;
  uint32_t layer, expert, row, column;
  float value;
};
// Rows 768 and up of layer 3's qkv are k: 868, 895 and 896 lie around the partial scale block.
constexpr Spot kSpots[] = {
    {TensorRole::kEmbedding, 0, 0, 12000, 511, -0.2194475531578064F},
    {TensorRole::kEmbedding, 0, 0, 31, 200, -0.0211879201233387F},
    {TensorRole::kLmHead, 0, 0, 777, 129, 0.0552455335855484F},
    {TensorRole::kQkvProj, 3, 0, 700, 5, 0.04673483222723007F},
    {TensorRole::kQkvProj, 3, 0, 895, 300, -0.0821099653840065F},
    {TensorRole::kQkvProj, 3, 0, 896, 300, -0.059743016958236694F},
    {TensorRole::kQkvProj, 3, 0, 868, 300, -0.01263230200856924F},
    {TensorRole::kQkvProj, 3, 0, 1060, 400, 0.15731549263000488F},
    {TensorRole::kOProj, 6, 0, 300, 260, 0.012338959611952305F},
    {TensorRole::kDenseGateUp, 0, 0, 2536, 257, 0.19874060153961182F},
    {TensorRole::kDenseDown, 0, 0, 511, 1535, -0.058543652296066284F},
    {TensorRole::kExpertGateUp, 1, 5, 10, 33, -0.375F},
    {TensorRole::kExpertGateUp, 7, 31, 255, 510, -0.1875F},
    {TensorRole::kExpertDown, 4, 0, 400, 97, 0.0625F},
    {TensorRole::kRouter, 2, 0, 3, 9, -0.0396178774535656F},
    {TensorRole::kRouterBias, 2, 0, 0, 30, 0.22055086493492126F},
    {TensorRole::kAttentionSink, 5, 0, 0, 7, 0.65625F},
    {TensorRole::kFinalNorm, 0, 0, 0, 100, 1.25F},
    {TensorRole::kInputNorm, 2, 0, 0, 511, 0.82421875F},
    {TensorRole::kPostAttentionNorm, 0, 0, 0, 0, 0.6875F},
};

TEST(WeightLoader, LoadsTheBundledModel) {
  const std::string directory = std::string(US_SOURCE_DIR) + "/models/tiny-mimo";
  const auto config = ModelConfig::load(directory);
  const auto checkpoint = Checkpoint::open(directory);
  ASSERT_TRUE(config.has_value() && checkpoint.has_value());
  const WeightLoader loader(*checkpoint, *config);
  const auto complete = loader.check_complete();
  ASSERT_TRUE(complete.has_value()) << complete.error().message;
  for (const WeightSource& source : all_weights(*config, 0, 1)) {
    const auto shape = loader.shape(source);
    ASSERT_TRUE(shape.has_value()) << shape.error().message;
    std::vector<std::byte> packed(shape->bytes);
    const auto status = loader.load(source, packed);
    ASSERT_TRUE(status.has_value()) << status.error().message;
  }
  for (const Spot& spot : kSpots) {
    const WeightSource source = {spot.role, spot.layer, spot.expert};
    const auto values = load_dense(loader, source);
    ASSERT_TRUE(values.has_value());
    EXPECT_EQ(values->at(size_t{spot.row} * loader.shape(source)->columns + spot.column),
              spot.value)
        << tensor_role_name(spot.role) << " " << spot.layer;
  }
  EXPECT_EQ(checkpoint->contents().backbone.num_tensors, checkpoint->num_tensors());
}

TEST(WeightLoader, LoadsTheReferenceCheckpoint) {
  const auto directory = test::reference_folder("mimo_v2_fused_t2_swa4");
  ASSERT_TRUE(directory.has_value()) << directory.error().message;
  const auto config = ModelConfig::load(*directory);
  const auto checkpoint = Checkpoint::open(*directory);
  ASSERT_TRUE(config.has_value() && checkpoint.has_value());
  EXPECT_EQ(checkpoint->tp_size(), 2U);
  const WeightLoader loader(*checkpoint, *config);
  for (const WeightSource& source : all_weights(*config, 0, 1)) {
    const auto values = load_dense(loader, source);
    ASSERT_TRUE(values.has_value()) << values.error().message;
    for (const float value : *values) ASSERT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace ultraspeed::model
