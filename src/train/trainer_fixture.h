// A run's inputs, small enough for a test: tables and shards of synthetic texts, and options of a
// drafter that learns them in seconds.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/philox.h"
#include "support/temporary_directory.h"
#include "tensor/bf16.h"
#include "train/capture_fixture.h"
#include "train/frozen_tables.h"
#include "train/trainer.h"

namespace ultraspeed::train {

inline constexpr uint32_t kHidden = 32, kVocab = 24, kBlock = 8, kLength = 56;

// What the features tell of texts of random tokens: the row of position t holds the token at t + 8,
// so that each mask finds its own 8 rows before it.
enum class Told : uint8_t {
  kToken,
  // Two tokens, x and x + 12. Which of them it is, is a function of the token before: of a block's
  // second mask on, nothing tells it but what the first ones became.
  kPair,
};

class Texts {
 public:
  explicit Texts(const std::string& directory, Told told = Told::kToken)
      : directory_(directory), told_(told) {
    for (uint32_t i = 0; i < 2 * kVocab * kHidden; ++i) {
      std::vector<float>& table = i < kVocab * kHidden ? tables_.embedding : tables_.head;
      table.push_back(static_cast<float>(gumbel_from_bits(random_bits(1, 1, i)) - 0.577));
    }
    tables_.vocab_size = kVocab;
    tables_.hidden_size = kHidden;
    tables_.model = "a target";
  }

  void write() const {
    write_shard("train", 24, 100);
    write_shard("eval", 4, 900);
    ASSERT_TRUE(tables_.write(directory_ + "/tables").has_value());
  }

  void write_shard(const std::string& name, uint32_t count, uint64_t seed,
                   const std::string& model = "a target") const {
    std::filesystem::create_directories(directory_ + "/" + name);
    auto writer = FeatureShardWriter::create(directory_ + "/" + name + "/0.features",
                                             {kHidden, kVocab, 4, {0, 3}, model});
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    for (uint32_t i = 0; i < count; ++i) ASSERT_TRUE(writer->add(text(seed + i)).has_value());
    ASSERT_TRUE(writer->finish().has_value());
    write_capture(directory_ + "/" + name);
  }

 private:
  FeatureSequence text(uint64_t seed) const {
    std::vector<uint32_t> tokens;
    for (uint32_t i = 0; i < kLength + 8; ++i) {
      tokens.push_back(static_cast<uint32_t>(random_bits(seed, 2, i) % kVocab));
      if (told_ == Told::kToken || i == 0) continue;
      const uint32_t before = tokens[i - 1];
      const bool is_high = (before >= kVocab / 2) != (before % 2 == 1);
      tokens[i] = tokens[i] % (kVocab / 2) + (is_high ? kVocab / 2 : 0);
    }
    FeatureSequence sequence;
    for (uint32_t i = 0; i < kLength; ++i) {
      sequence.token_ids.push_back(static_cast<int32_t>(tokens[i]));
      sequence.loss_mask.push_back(i >= 10 ? 1 : 0);
      append_told(tokens[i + 8], &sequence.features);
      append_row(tables_.embedding, tokens[i], 1, &sequence.features);
      append_row(tables_.head, tokens[i + 1], 0.2F, &sequence.last_hidden);
    }
    return sequence;
  }

  void append_told(uint32_t token, std::vector<uint16_t>* out) const {
    if (told_ == Told::kToken) return append_row(tables_.embedding, token, 1, out);
    const uint32_t low = token % (kVocab / 2) * kHidden, high = low + kVocab / 2 * kHidden;
    for (uint32_t k = 0; k < kHidden; ++k) {
      out->push_back(
          tensor::bf16_from_float(tables_.embedding[low + k] + tables_.embedding[high + k]));
    }
  }

  static void append_row(const std::vector<float>& table, uint32_t row, float scale,
                         std::vector<uint16_t>* out) {
    for (uint32_t k = 0; k < kHidden; ++k) {
      out->push_back(tensor::bf16_from_float(table[row * kHidden + k] * scale));
    }
  }

  const std::string directory_;
  const Told told_;
  FrozenTables tables_;
};

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    Texts(directory_.path()).write();
  }

  TrainerOptions options() const {
    TrainerOptions options;
    options.features = directory_.path() + "/train";
    options.eval_features = directory_.path() + "/eval";
    options.tables = directory_.path() + "/tables";
    options.output = directory_.path() + "/dflash";
    model::DrafterConfig& drafter = options.drafter;
    drafter.intermediate_size = 32;
    drafter.num_layers = 1;
    drafter.num_q_heads = 2;
    drafter.num_kv_heads = 1;
    drafter.head_dim = drafter.v_head_dim = drafter.rotary_dim = 32;
    drafter.block_size = kBlock;
    drafter.mask_token_id = 9;
    drafter.sliding_window = 16;
    drafter.has_window_before_anchor = true;
    drafter.layers = {{16, false}};
    drafter.rope_theta = 100;
    drafter.rms_norm_eps = 1e-5F;
    drafter.has_sink = true;
    options.num_steps = 200;
    options.sequences_per_pass = 8;
    options.blocks_per_sequence = 16;
    options.muon_learning_rate = 0.02;
    options.learning_rate = 0.01;
    options.log_every = 50;
    options.eval_every = 1000;
    return options;
  }

  std::unique_ptr<Trainer> open(const TrainerOptions& options) {
    auto trainer = Trainer::open(options, [this](const std::string& line) { log_ += line + "\n"; });
    EXPECT_TRUE(trainer.has_value()) << trainer.error().message;
    return trainer ? std::move(*trainer) : nullptr;
  }

  static std::vector<double> losses(Trainer* trainer, int count) {
    std::vector<double> result;
    for (int i = 0; i < count; ++i) result.push_back(trainer->step().value().loss);
    return result;
  }

  static std::string error_of(const TrainerOptions& options) {
    const auto trainer = Trainer::open(options, [](const std::string&) {});
    return trainer ? std::string() : trainer.error().message;
  }

  test::TemporaryDirectory directory_;
  std::string log_;
};

}  // namespace ultraspeed::train
