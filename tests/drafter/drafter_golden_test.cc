// The draft part of a program equals the stock implementation of a DFlash drafter: blocks of
// qwen3_dflash from given features, whatever pieces its context was appended in; and each
// convention that is easily mixed up would show.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/check.h"
#include "model/checkpoint.h"
#include "model/drafter.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/reference_folder.h"
#include "support/stage_executor.h"
#include "support/temporary_directory.h"
#include "tensor/bf16.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

constexpr uint32_t kHidden = 128, kVocab = 512, kRows = 8;
constexpr double kTolerance = 1e-4;

struct GoldenBlock {
  uint32_t start = 0;
  std::vector<double> row_norms;                // [kRows]
  std::vector<std::vector<uint32_t>> top_ids;   // [kRows]
  std::vector<std::vector<double>> top_logits;  // [kRows]
};

struct Golden {
  std::string directory;
  std::vector<int32_t> token_ids;
  std::vector<float> features;  // [token_ids.size(), 3 * kHidden]: after layers 1, 3 and 5
  std::vector<GoldenBlock> blocks;
  std::vector<std::byte> embedding, head;  // BF16 [kVocab, kHidden]

  static Golden load();
};

std::vector<std::byte> read_tensor(const model::Checkpoint& checkpoint, const char* name) {
  std::vector<std::byte> bytes(checkpoint.find(name)->info->bytes);
  US_CHECK(checkpoint.read(name, bytes).has_value());
  return bytes;
}

Golden Golden::load() {
  Golden golden;
  golden.directory = reference_folder("qwen3_dflash").value();
  std::ifstream file(golden.directory + "/golden.json");
  const json object = json::parse(file);
  golden.token_ids = object.at("token_ids").get<std::vector<int32_t>>();
  for (const json& block : object.at("blocks")) {
    golden.blocks.push_back({block.at("start").get<uint32_t>(),
                             block.at("hidden_row_norms").get<std::vector<double>>(),
                             block.at("top10_ids").get<std::vector<std::vector<uint32_t>>>(),
                             block.at("top10_logits").get<std::vector<std::vector<double>>>()});
  }
  US_CHECK(golden.blocks.size() == 5);
  const auto features =
      model::SafetensorsFile::open(golden.directory + "/golden_features.safetensors").value();
  const model::TensorInfo& info = features.header().tensors.at("features");
  golden.features.resize(info.bytes / sizeof(float));
  US_CHECK(features.read(info.offset, std::as_writable_bytes(std::span(golden.features))));
  const auto target = model::Checkpoint::open(golden.directory + "/target").value();
  golden.embedding = read_tensor(target, "model.embed_tokens.weight");
  golden.head = read_tensor(target, "lm_head.weight");
  return golden;
}

// What a step drafted.
struct Drafted {
  std::vector<float> hidden;  // [kRows, kHidden], before the final norm
  std::vector<float> logits;  // [kRows, kVocab]; row 0 is not computed
  std::vector<int32_t> ids;   // [kRows]; row 0: -1
};

// The drafter behind a stand-in for its target: a random model of 8 layers with the golden tables,
// whose residuals after layers 1, 3 and 5 are replaced by features.
class DrafterHarness {
 public:
  DrafterHarness(const Golden& golden, const std::function<void(model::DrafterConfig*)>& change)
      : golden_(golden) {
    GeneratorOptions target;
    target.hidden_size = kHidden;
    target.vocab_size = kVocab;
    target.sliding_layers.assign(8, 0);
    target.moe_layers.assign(8, 0);
    US_CHECK(write_checkpoint(directory_.path(), target).has_value());
    RunnerOptions options;
    options.width = 64;
    options.max_context = 256;
    options.drafter = golden.directory;
    options.change_drafter = change;
    options.damage = [&golden](const model::WeightSource& source, std::span<std::byte> packed) {
      const bool is_embedding = source.role == model::TensorRole::kEmbedding;
      if (!is_embedding && source.role != model::TensorRole::kLmHead) return;
      const std::vector<std::byte>& table = is_embedding ? golden.embedding : golden.head;
      US_CHECK(packed.size() == table.size());
      std::copy(table.begin(), table.end(), packed.begin());
    };
    options.make_executor = [this] {
      return make_stage_executor(
          [this](const std::string& stage, StageValues* values) { after_stage(stage, values); });
    };
    auto runner = ModelRunner::open(directory_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    runner_.emplace(std::move(*runner));
  }

  // Appends positions [begin, begin + count); those from num_true on with features that are noise.
  void append(uint32_t begin, uint32_t count, uint32_t num_true) {
    num_true_ = num_true;
    std::vector<program::Column> columns(count);
    for (uint32_t i = 0; i < count; ++i) columns[i].position = begin + i;
    run(columns);
  }

  Drafted draft(uint32_t start) {
    num_true_ = 0;  // whatever the block's own rows append must not matter later
    runner_->set_length(start);
    const auto columns = runner_->draft_block(golden_.token_ids[start], kRows);
    const program::StepOutput output = run(columns);
    drafted_.ids.clear();
    for (const program::ColumnOutput& column : output.columns) {
      drafted_.ids.push_back(column.drafted_id);
    }
    return drafted_;
  }

 private:
  program::StepOutput run(const std::vector<program::Column>& columns) {
    columns_ = &columns;
    auto output = runner_->step(columns);
    US_CHECK(output.has_value(), "{}", output.error().message);
    return std::move(*output);
  }

  void after_stage(const std::string& stage, StageValues* values) {
    for (uint32_t tap = 0; tap < 3; ++tap) {
      const std::string name = fmt::format("layers.{}.ffn_residual", 2 * tap + 1);
      if (stage == name) replace(tap, values->values(name));
    }
    if (stage != "draft.lm_head") return;
    const auto hidden = values->values("draft.layers.2.ffn_residual").first(kRows * kHidden);
    const auto logits = values->values("draft.logits").first(kRows * kVocab);
    drafted_.hidden.assign(hidden.begin(), hidden.end());
    drafted_.logits.assign(logits.begin(), logits.end());
  }

  void replace(uint32_t tap, std::span<float> residual) {
    for (size_t t = 0; t < columns_->size(); ++t) {
      const uint32_t position = (*columns_)[t].position;
      const std::span<float> row = residual.subspan(t * kHidden, kHidden);
      for (float& value : row) value = 100.0F * noise_(random_);
      if (t >= num_true_) continue;
      const float* feature = &golden_.features[(position * 3 + tap) * kHidden];
      std::copy(feature, feature + kHidden, row.begin());
    }
  }

  const Golden& golden_;
  TemporaryDirectory directory_;
  std::optional<ModelRunner> runner_;
  const std::vector<program::Column>* columns_ = nullptr;
  uint32_t num_true_ = 0;
  std::mt19937 random_{3};
  std::normal_distribution<float> noise_;
  Drafted drafted_;
};

// The largest difference of a block from the golden one: row norms after the final norm (relative)
// and top-10 logits. Row 0, which programs throw away, is multiplied with the head here. `shift`:
// compares row r with the golden row r + shift.
double difference(const Golden& golden, const GoldenBlock& block, const Drafted& drafted,
                  int shift = 0) {
  const auto drafter = model::Drafter::open(golden.directory).value();
  std::vector<float> norm(kHidden);
  US_CHECK(drafter.load({model::TensorRole::kFinalNorm, 0, 0, 0, 1, model::Stack::kDflash},
                        std::as_writable_bytes(std::span(norm))));
  double largest = 0;
  for (uint32_t row = 1; row + 1 < kRows || (shift == 0 && row < kRows); ++row) {
    const size_t expected = row + static_cast<uint32_t>(shift);
    for (size_t i = 0; i < block.top_ids[expected].size(); ++i) {
      const float logit = drafted.logits[row * kVocab + block.top_ids[expected][i]];
      const double error = std::abs(static_cast<double>(logit) - block.top_logits[expected][i]);
      largest = std::isnan(error) ? INFINITY : std::max(largest, error);
    }
  }
  for (uint32_t row = 0; row < kRows; ++row) {
    double mean = 0, squares = 0;
    std::vector<double> normed(kHidden);
    for (uint32_t i = 0; i < kHidden; ++i) {
      const double x = static_cast<double>(drafted.hidden[row * kHidden + i]);
      mean += x * x / kHidden;
      normed[i] = x * static_cast<double>(norm[i]);
    }
    for (double& value : normed) {
      value /= std::sqrt(mean + 1e-6);
      squares += value * value;
    }
    const double expected = block.row_norms[row];
    largest = std::max(largest, std::abs(std::sqrt(squares) - expected) / expected);
    if (row != 0) continue;
    for (size_t i = 0; i < block.top_ids[0].size(); ++i) {
      double logit = 0;
      for (uint32_t k = 0; k < kHidden; ++k) {
        uint16_t bits = 0;
        std::memcpy(&bits, &golden.head[(block.top_ids[0][i] * kHidden + k) * 2], 2);
        logit += normed[k] * static_cast<double>(tensor::bf16_to_float(bits));
      }
      largest = std::max(largest, std::abs(logit - block.top_logits[0][i]));
    }
  }
  return largest;
}

// The largest difference over all blocks, context appended in steps of 64.
double largest_difference(const Golden& golden,
                          const std::function<void(model::DrafterConfig*)>& change) {
  DrafterHarness harness(golden, change);
  double largest = 0;
  for (const GoldenBlock& block : golden.blocks) {
    for (uint32_t begin = 0; begin < block.start; begin += 64) {
      harness.append(begin, std::min(64u, block.start - begin), 64);
    }
    largest = std::max(largest, difference(golden, block, harness.draft(block.start)));
  }
  return largest;
}

TEST(DrafterGolden, BlocksEqualTheStockImplementation) {
  const double largest = largest_difference(Golden::load(), nullptr);
  std::printf("largest difference of 5 blocks: %.2g\n", largest);
  EXPECT_LT(largest, kTolerance);
}

TEST(DrafterGolden, DraftsTheLikeliestTokenOfEachRowAtItsOwnPosition) {
  const Golden golden = Golden::load();
  DrafterHarness harness(golden, nullptr);
  const GoldenBlock& block = golden.blocks[2];
  for (uint32_t at = 0; at < block.start; at += 8) {
    harness.append(at, std::min(8u, block.start - at), 8);
  }
  const Drafted drafted = harness.draft(block.start);
  EXPECT_EQ(drafted.ids[0], -1);
  for (uint32_t row = 1; row < kRows; ++row) {
    EXPECT_EQ(drafted.ids[row], static_cast<int32_t>(block.top_ids[row][0])) << row;
  }
}

// Cycles as in decoding: every step appends rows of which only some are kept, and drafts on the
// way.
TEST(DrafterGolden, RejectedRowsDoNotMatter) {
  const Golden golden = Golden::load();
  DrafterHarness harness(golden, nullptr);
  std::mt19937 random(5);
  double largest = 0;
  uint32_t length = 0;
  for (const GoldenBlock& block : golden.blocks) {
    while (length < block.start) {
      const uint32_t accepted =
          std::min(1 + static_cast<uint32_t>(random() % 5), block.start - length);
      harness.append(length, kRows, accepted);
      length += accepted;
      harness.draft(length);
    }
    largest = std::max(largest, difference(golden, block, harness.draft(block.start)));
  }
  std::printf("largest difference of 5 blocks, cached: %.2g\n", largest);
  EXPECT_LT(largest, kTolerance);
}

// --- Each convention shows ---

TEST(DrafterGolden, AShiftedTapShows) {
  const Golden golden = Golden::load();
  for (const int shift : {-1, 1}) {
    EXPECT_GT(largest_difference(golden,
                                 [=](model::DrafterConfig* config) {
                                   for (uint32_t& id : config->target_layer_ids) {
                                     id += static_cast<uint32_t>(shift);
                                   }
                                 }),
              0.1)
        << shift;
  }
}

TEST(DrafterGolden, ShiftedLabelsShow) {
  const Golden golden = Golden::load();
  DrafterHarness harness(golden, nullptr);
  harness.append(0, golden.blocks[0].start, 64);
  const Drafted drafted = harness.draft(golden.blocks[0].start);
  EXPECT_LT(difference(golden, golden.blocks[0], drafted), kTolerance);
  EXPECT_GT(difference(golden, golden.blocks[0], drafted, 1), 0.1);
  EXPECT_GT(difference(golden, golden.blocks[0], drafted, -1), 0.1);
}

TEST(DrafterGolden, AnotherMaskShows) {
  EXPECT_GT(largest_difference(Golden::load(), [](auto* config) { ++config->mask_token_id; }), 0.1);
}

TEST(DrafterGolden, AnotherRopeBaseShows) {
  EXPECT_GT(largest_difference(Golden::load(), [](auto* config) { config->rope_theta = 1e4F; }),
            0.01);
}

TEST(DrafterGolden, CausalityInsideTheBlockShows) {
  EXPECT_GT(largest_difference(Golden::load(),
                               [](auto* config) {
                                 for (auto& layer : config->layers) layer.is_causal = true;
                               }),
            0.1);
}

}  // namespace
}  // namespace ultraspeed::test
