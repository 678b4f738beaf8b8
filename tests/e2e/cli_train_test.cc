// ultraspeed train-drafter: that captured texts, residuals and tables fit together, and errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>
#include <utility>

#include "cpu/math.h"
#include "e2e/cli.h"
#include "golden/golden_case.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/weights.h"
#include "support/temporary_directory.h"
#include "tensor/bf16.h"
#include "train/feature_shard.h"
#include "train/frozen_tables.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

constexpr size_t kNumPrompts = 3, kHiddenSize = 512;
constexpr uint32_t kMaxTokens = 8;

std::string join(const std::vector<int32_t>& ids) {
  std::string list;
  for (const int32_t id : ids) list += (list.empty() ? "" : ",") + std::to_string(id);
  return list;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class TrainDrafter : public testing::Test {
 protected:
  static std::vector<int32_t> prompt_ids(size_t index) {
    return tiny_mimo_cases()[4 + 2 * index].prompt_ids;  // two word problems and a tool call
  }

  // Two of a family, one of none.
  std::string prompts() const {
    std::string lines;
    for (size_t i = 0; i < kNumPrompts; ++i) {
      json line = {{"prompt_ids", prompt_ids(i)}};
      if (i < 2) line["family"] = "math";
      lines += line.dump() + "\n";
    }
    return lines;
  }

  // Captures into a folder of this name; errors are the test's to look at.
  Finished capture(const std::string& name, const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = {
        "train-drafter", "capture",
        "--model",       kTinyMimo,
        "--executor",    "cpu",
        "--prompts",     write_text(directory_.path(), "prompts", prompts()),
        "--out",         folder(name),
        "--max-tokens",  std::to_string(kMaxTokens)};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_cli(arguments);
  }

  std::string folder(const std::string& name) const { return directory_.path() + "/" + name; }

  static std::vector<int32_t> greedy_answer(size_t index) {
    return run_cli_json({"run", "--model", kTinyMimo, "--executor", "cpu", "--drafter", "none",
                         "--prompt-ids", join(prompt_ids(index)), "--greedy", "--max-tokens",
                         std::to_string(kMaxTokens)})["ids"];
  }

  TemporaryDirectory directory_;
};

std::vector<float> floats_of(const uint16_t* bits, size_t count) {
  std::vector<float> values(count);
  std::transform(bits, bits + count, values.begin(), tensor::bf16_to_float);
  return values;
}

size_t likeliest(const train::FrozenTables& tables, const std::vector<float>& hidden) {
  size_t best = 0;
  float best_logit = -1e30F;
  for (size_t id = 0; id < tables.vocab_size; ++id) {
    const float logit = cpu::dot(&tables.head[id * kHiddenSize], hidden.data(), kHiddenSize);
    if (logit > best_logit) std::tie(best, best_logit) = std::pair(id, logit);
  }
  return best;
}

TEST_F(TrainDrafter, TextsResidualsAndTablesFitTogether) {
  const Finished finished = capture("out", {"--streams", "2", "--layers", "0,3,7"});
  ASSERT_EQ(finished.exit_code, 0) << finished.errors;
  const auto shards = train::FeatureFolder::open(folder("out"));
  ASSERT_TRUE(shards) << shards.error().message;
  const auto tables = train::FrozenTables::read(folder("out") + "/target.tables");
  ASSERT_TRUE(tables) << tables.error().message;
  const train::FeatureShape& shape = shards->shape();
  EXPECT_EQ(shape.model, tables->model);
  EXPECT_EQ(shape.target_layer_ids, (std::vector<uint32_t>{0, 3, 7}));
  EXPECT_EQ(shape.num_target_layers, 8u);
  EXPECT_EQ(shape.hidden_size, kHiddenSize);
  ASSERT_EQ(shards->num_sequences(), kNumPrompts);

  const auto config = model::ModelConfig::load(kTinyMimo).value();
  const auto checkpoint = model::Checkpoint::open(kTinyMimo).value();
  std::vector<float> norm(kHiddenSize);
  ASSERT_TRUE(
      model::WeightLoader(checkpoint, config)
          .load({.role = model::TensorRole::kFinalNorm}, std::as_writable_bytes(std::span(norm))));
  uint64_t num_tokens = 0, num_answered = 0;
  for (size_t i = 0; i < kNumPrompts; ++i) {
    const auto sequence = shards->read(i).value();
    const std::vector<int32_t> prompt = prompt_ids(i), answer = greedy_answer(i);
    std::vector<int32_t> text = prompt;
    text.insert(text.end(), answer.begin(), answer.end());
    EXPECT_EQ(sequence.token_ids, text);
    ASSERT_EQ(sequence.loss_mask.size(), text.size());
    for (size_t at = 0; at < text.size(); ++at) {
      EXPECT_EQ(sequence.loss_mask[at], at < prompt.size() ? 0 : 1);
      const auto hidden = floats_of(&sequence.last_hidden[at * kHiddenSize], kHiddenSize);
      const auto residual =
          floats_of(&sequence.features[(at * 3 + 2) * kHiddenSize], kHiddenSize);  // layer 7's
      std::vector<float> normed(kHiddenSize);
      cpu::rms_norm(residual.data(), norm.data(), config.rms_norm_eps, kHiddenSize, normed.data());
      // Both are rounded to 8 bits, once before the norm and once behind it.
      for (size_t k = 0; k < kHiddenSize; ++k) {
        ASSERT_NEAR(hidden[k], normed[k], 0.01F * std::abs(normed[k]) + 1e-6F) << at << ", " << k;
      }
      if (at + 1 < prompt.size() || at + 1 == text.size()) continue;
      EXPECT_EQ(likeliest(*tables, hidden), static_cast<size_t>(text[at + 1])) << i << ", " << at;
    }
    num_tokens += text.size();
    num_answered += answer.size();
  }
  const json summary = json::parse(bytes_of(folder("out") + "/capture.json"));
  EXPECT_EQ(summary["texts"], kNumPrompts);
  EXPECT_EQ(summary["tokens"], num_tokens);
  EXPECT_EQ(summary["answer_tokens"], num_answered);
  EXPECT_EQ(summary["families"]["math"]["texts"], 2);
  EXPECT_EQ(summary["families"][""]["texts"], 1);
  EXPECT_EQ(summary["target"], tables->model);
}

TEST_F(TrainDrafter, HowTheWorkIsCutChangesNoBit) {
  ASSERT_EQ(capture("a", {"--threads", "1", "--streams", "1"}).exit_code, 0);
  ASSERT_EQ(capture("b", {"--threads", "3", "--streams", "3", "--prefill-width", "5"}).exit_code,
            0);
  const std::string shard = bytes_of(folder("a") + "/00000.features");
  EXPECT_GT(shard.size(), 100000u);
  EXPECT_EQ(train::FeatureFolder::open(folder("a"))->shape().target_layer_ids,
            (std::vector<uint32_t>{1, 3, 5}));
  EXPECT_TRUE(shard == bytes_of(folder("b") + "/00000.features"));
  EXPECT_TRUE(bytes_of(folder("a") + "/target.tables") == bytes_of(folder("b") + "/target.tables"));
}

TEST_F(TrainDrafter, SampledTextsDependOnSeedAndPlaceAlone) {
  const std::vector<std::string> flags = {"--temperature", "5", "--layers", "7"};
  const auto texts = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.end(), flags.begin(), flags.end());
    const Finished finished = capture(name, more);
    EXPECT_EQ(finished.exit_code, 0) << finished.errors;
    const auto shards = train::FeatureFolder::open(folder(name)).value();
    std::vector<std::vector<int32_t>> result;
    for (size_t i = 0; i < shards.num_sequences(); ++i) {
      result.push_back(shards.read(i).value().token_ids);
    }
    return result;
  };
  const auto all = texts("all", {});
  ASSERT_EQ(all.size(), kNumPrompts);
  EXPECT_EQ(texts("part", {"--skip", "1", "--limit", "1"}),
            (std::vector<std::vector<int32_t>>{all[1]}));
  const auto other = texts("other", {"--seed", "1"});
  for (size_t i = 0; i < kNumPrompts; ++i) EXPECT_NE(other[i], all[i]) << i;
}

TEST_F(TrainDrafter, TextsEndAtTheirLimitAndLongPromptsAreLeftOut) {
  std::vector<size_t> lengths;
  for (size_t i = 0; i < kNumPrompts; ++i) lengths.push_back(prompt_ids(i).size());
  const size_t least = *std::min_element(lengths.begin(), lengths.end());
  const auto limit = std::to_string(least + 3);
  ASSERT_EQ(capture("short", {"--max-length", limit, "--shard-bytes", "1kB"}).exit_code, 0);
  const auto shards = train::FeatureFolder::open(folder("short")).value();
  const auto num_taken =
      std::count_if(lengths.begin(), lengths.end(), [&](size_t n) { return n < least + 3; });
  ASSERT_EQ(shards.num_sequences(), static_cast<size_t>(num_taken));
  EXPECT_EQ(shards.length(0), least + 3);
  const json summary = json::parse(bytes_of(folder("short") + "/capture.json"));
  EXPECT_EQ(summary["prompts_too_long"], kNumPrompts - num_taken);
  EXPECT_EQ(summary["shards"].size(), static_cast<size_t>(num_taken));  // none holds two
}

TEST_F(TrainDrafter, RefusesWhatItCannotDo) {
  const auto message = [&](const std::vector<std::string>& flags) {
    const Finished finished = capture("out", flags);
    EXPECT_NE(finished.exit_code, 0);
    return finished.errors;
  };
  EXPECT_NE(message({"--layers", "0,8"}).find("--layers"), std::string::npos);
  EXPECT_NE(message({"--layers", "3,0"}).find("--layers"), std::string::npos);
  EXPECT_NE(message({"--skip", "3"}).find("--skip 3: expected less than the 3 prompts"),
            std::string::npos);
  EXPECT_NE(message({"--max-length", "4"}).find("raise --max-length"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder("out")));
  ASSERT_EQ(capture("out", {"--limit", "1"}).exit_code, 0);
  EXPECT_NE(message({}).find("00000.features' already; give another folder"), std::string::npos);
}

TEST_F(TrainDrafter, RunIsTheTrainerOrSaysWhatIsMissing) {
  const Finished finished = run_cli({"train-drafter", "run", "--bogus", "1"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_NE(finished.errors.find(US_HAS_TRAINERS ? "unknown flag '--bogus'" : "libtorch-dev"),
            std::string::npos)
      << finished.errors;
}

}  // namespace
}  // namespace ultraspeed::test
