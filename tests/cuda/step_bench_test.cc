// How `bench step` lays out one rank of a planned program, on any machine; and on a GPU that it
// measures it.
#include "cuda/bench/step_bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cuda/bench/kernel_group.h"
#include "cuda/bench/step_machine.h"
#include "cuda/bench/step_program.h"
#include "cuda/bench/weight_rotation.h"
#include "cuda/gpu.h"
#include "cuda/middle.h"
#include "cuda/planned.h"
#include "program/access.h"
#include "program/route_table.h"

namespace ultraspeed::test {
namespace {

using cuda::MachineOptions;
using cuda::StageGroup;
using cuda::WeightForm;
using program::Program;

constexpr MachineOptions kFast{program::Activations::kW4a8, program::KvCacheType::kF32, 0};

TEST(WeightForms, AreThoseOfTheRankThatIsHeld) {
  const Program program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto count = [&program](const MachineOptions& options, const auto& is_counted) {
    return std::ranges::count_if(weight_forms({&program, 1}, options), is_counted);
  };
  const auto has_pages = [](WeightForm form) { return form != WeightForm::kCanonical; };
  const auto is_expert = [&](WeightForm form) { return has_pages(form) && !is_dense(form); };
  EXPECT_EQ(count(kFast, is_expert), 2 * 69);
  // Of each layer qkv and o_proj, gate/up and down of the dense one, and the head.
  EXPECT_EQ(count(kFast, cuda::is_dense), 70 * 2 + 2 + 1);
  MachineOptions options = kFast;
  options.only_rank.reset();
  EXPECT_EQ(count(options, has_pages), 0) << "eight ranks would have to push to each other";
  options = kFast;
  options.activations = program::Activations::kF32;
  EXPECT_EQ(count(options, has_pages), 0);
}

TEST(WeightRotation, SharesMemoryAmongLayers) {
  const Program program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto forms = weight_forms({&program, 1}, kFast);
  const auto rotation = cuda::rotate_weights(program, forms, 60, false);
  // Six layers of 60 of the 384 experts, and down reads 50.1 MB: two sets are twelve layers.
  EXPECT_EQ(rotation.num_expert_sets, 2u);
  EXPECT_EQ(rotation.experts_in_a_set, 384u);
  EXPECT_GT(rotation.whole_bytes, uint64_t{60} << 30);
  EXPECT_LT(rotation.places.size_bytes, uint64_t{6} << 30);
  // What shares memory is alike, and what does not share it does not overlap.
  std::map<uint64_t, program::WeightId> first;
  for (program::WeightId id = 0; id < program.weights.size(); ++id) {
    const auto [at, is_new] = first.emplace(rotation.places.offsets[id], id);
    EXPECT_EQ(rotation.places.offsets[id] % cuda::kMatrixAlignment, 0u);
    if (is_new) continue;
    EXPECT_EQ(program.weights[id].rows, program.weights[at->second].rows);
    EXPECT_EQ(program.weights[id].format, program.weights[at->second].format);
    EXPECT_EQ(forms[id], forms[at->second]);
  }
  uint64_t end = 0;
  for (const auto& [offset, id] : first) {
    EXPECT_EQ(offset, end);
    end += program.weights[id].count * form_bytes(program, id, forms[id]);
  }
  EXPECT_EQ(end, rotation.places.size_bytes);
}

// No expert of a set is read again before six caches of others of its kind.
// Biases have no say in how many sets there are.
TEST(WeightRotation, SharesMemoryOfExpertsWithBiases) {
  const Program program = plan_of("configs/gpt-oss-120b", 1, 8);
  const auto forms = weight_forms({&program, 1}, kFast);
  const auto rotation = cuda::rotate_weights(program, forms, 29, false);
  EXPECT_LE(rotation.num_expert_sets, 2u);
  EXPECT_LT(rotation.places.size_bytes, uint64_t{9} << 30);
}

TEST(WeightRotation, ReadsOtherExpertsInEachLayer) {
  const Program program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto forms = weight_forms({&program, 1}, kFast);
  for (const uint32_t live : {1u, 25u, 60u}) {
    const auto rotation = cuda::rotate_weights(program, forms, live, false);
    std::map<std::pair<uint64_t, uint32_t>, uint32_t> last;  // by matrix: the layer that read it
    uint32_t layer = 0;
    for (const program::Stage& stage : program.stages) {
      const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands);
      if (down == nullptr) continue;
      const auto experts = rotation.live(down->weight);
      EXPECT_EQ(std::set<uint32_t>(experts.begin(), experts.end()).size(), live);
      const uint64_t bytes = live * form_bytes(program, down->weight, forms[down->weight]);
      for (const uint32_t expert : experts) {
        ASSERT_LT(expert, 384u);
        const auto [at, is_new] =
            last.emplace(std::pair(rotation.places.offsets[down->weight], expert), layer);
        if (is_new) continue;
        EXPECT_GE((layer - at->second) * bytes, uint64_t{300} << 20) << live;
        at->second = layer;
      }
      ++layer;
    }
    EXPECT_EQ(layer, 69u);
  }
}

TEST(WeightRotation, LeavesWhatIsFewAlone) {
  const Program program = plan_of("models/tiny-mimo", 1, 8);
  const auto forms = weight_forms({&program, 1}, kFast);
  const auto rotation = cuda::rotate_weights(program, forms, 16, false);
  const std::set<uint64_t> places(rotation.places.offsets.begin(), rotation.places.offsets.end());
  EXPECT_EQ(places.size(), program.weights.size());
  EXPECT_EQ(rotation.places.size_bytes, rotation.whole_bytes);
}

// Nothing but what all ranks write a part of lies where it lies.
TEST(StepProgram, SetsWhatRanksShareApart) {
  const Program planned = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const Program program = cuda::prepare_step(planned, false).program;
  ASSERT_EQ(program.stages.size(), planned.stages.size());
  std::set<program::BufferId> shared;
  uint64_t tables = 0;
  for (program::BufferId id = 0; id < program.buffers.size(); ++id) {
    const auto& buffer = program.buffers[id];
    EXPECT_LE(buffer.offset_bytes + buffer.size_bytes, program.arena_bytes);
    if (id >= planned.buffers.size()) {
      ++tables;
    } else if (buffer.offset_bytes >= planned.arena_bytes) {
      shared.insert(id);
    } else {
      EXPECT_EQ(buffer.offset_bytes, planned.buffers[id].offset_bytes);
    }
  }
  EXPECT_EQ(tables, 69u);
  // The embedding, logits, and of each of 70 layers two products and two residuals.
  EXPECT_EQ(shared.size(), 2u + 70 * 4);
  for (const program::Stage& stage : program.stages) {
    const auto* reduce = std::get_if<program::ReduceOperands>(&stage.operands);
    if (reduce == nullptr) continue;
    EXPECT_TRUE(shared.contains(reduce->partials) && shared.contains(reduce->residual));
    EXPECT_NE(program.buffers[reduce->residual].offset_bytes,
              program.buffers[reduce->output].offset_bytes);
  }
}

TEST(StepProgram, HasATableForEachLayerOfExperts) {
  const Program planned = plan_of("configs/mimo-v2.5-pro", 8, 16);
  const cuda::StepProgram step = cuda::prepare_step(planned, false);
  ASSERT_EQ(step.routes.size(), 69u);
  EXPECT_EQ(step.routes[0].max_slots, 128u);
  EXPECT_EQ(step.routes[0].max_pairs, 128u);
  EXPECT_EQ(step.routes[0].num_chosen, 8u);
  size_t next = 0;
  program::BufferId written = program::kNoId;
  for (const program::Stage& stage : step.program.stages) {
    if (const auto* route = std::get_if<program::RouteOperands>(&stage.operands)) {
      written = route->route;
    } else if (const auto* up = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) {
      EXPECT_EQ(up->route, step.routes[next].buffer);
      EXPECT_EQ(up->weight, step.routes[next].gate_up);
      EXPECT_NE(up->route, written);
    } else if (const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands)) {
      EXPECT_EQ(down->route, step.routes[next++].buffer);
    }
  }
}

cuda::StepForms rows_of(const Program& program) {
  return {weight_forms({&program, 1}, kFast), cuda::cache_forms({&program, 1}, kFast.kv_cache)};
}

const StageGroup* find_group(const std::vector<StageGroup>& groups, const std::string& name,
                             size_t count) {
  const auto found = std::ranges::find_if(groups, [&](const StageGroup& group) {
    return group.name == name && group.stages.size() == count;
  });
  EXPECT_NE(found, groups.end()) << name << " " << count;
  return found == groups.end() ? nullptr : &*found;
}

TEST(StageGroups, SayWhatFp8ExpertsRead) {
  const Program program = plan_of("configs/mimo-v2.5-pro-fp8", 8, 8);
  const auto groups = group_stages(program, rows_of(program), 0, {8, 1024, 60});
  const StageGroup* gate_up = find_group(groups, "expert_gate_up", 69);
  const StageGroup* down = find_group(groups, "expert_down", 69);
  ASSERT_TRUE(gate_up != nullptr && down != nullptr);
  EXPECT_EQ(gate_up->bytes, 60u * 512 * 6144 / 128 * 132 + 6144 * 4);
  EXPECT_EQ(down->bytes, 60u * 6144 * 256 / 128 * 132);
}

TEST(StageGroups, SayWhatAStageReads) {
  const Program program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto groups = group_stages(program, rows_of(program), 0, {8, 1024, 60});
  size_t num_stages = 0;
  for (const StageGroup& group : groups) num_stages += group.stages.size();
  EXPECT_EQ(num_stages, program.stages.size());
  const StageGroup* gate_up = find_group(groups, "expert_gate_up", 69);
  ASSERT_NE(gate_up, nullptr);
  EXPECT_EQ(gate_up->shape, "60 live of 512 x 6144");
  // 17 bytes for 32 weights, and the norm.
  EXPECT_EQ(gate_up->bytes, 60u * 512 * 6144 / 32 * 17 + 6144 * 4);
  const StageGroup* down = find_group(groups, "expert_down", 69);
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->bytes, 60u * 6144 * 256 / 32 * 17);
  // One KV head of 192 + 128 elements: all 1032 positions, or the window's 128 and the rows.
  const StageGroup* full = find_group(groups, "attention", 10);
  const StageGroup* sliding = find_group(groups, "attention", 60);
  ASSERT_TRUE(full != nullptr && sliding != nullptr);
  EXPECT_EQ(full->shape, "16 q heads, 1 kv heads, 1032 positions");
  EXPECT_EQ(full->bytes, 1032u * (192 + 128) * 4);
  EXPECT_EQ(sliding->shape, "16 q heads, 1 kv heads, 135 positions");
  const StageGroup* embed = find_group(groups, "embed", 1);
  ASSERT_NE(embed, nullptr);
  EXPECT_EQ(embed->bytes, 8u * 768 * 2);
  const StageGroup* reduce = find_group(groups, "ffn_residual", 70);
  ASSERT_NE(reduce, nullptr);
  EXPECT_EQ(reduce->bytes, 0u);
}

// Tokens are chosen on rank 0.
TEST(StageGroups, AreThoseOfTheRank) {
  const Program program = plan_of("configs/mimo-v2.5-pro", 8, 8);
  const auto has = [&](uint32_t rank, const char* name) {
    return std::ranges::any_of(group_stages(program, rows_of(program), rank, {8, 1024, 60}),
                               [&](const StageGroup& group) { return group.name == name; });
  };
  EXPECT_TRUE(has(0, "sample") && has(0, "accept") && has(0, "lm_head"));
  EXPECT_TRUE(has(7, "lm_head"));
  EXPECT_FALSE(has(7, "sample") || has(7, "accept"));
}

// [stage's name]: why its first group runs as a general loop.
std::map<std::string, std::string> general_reasons(Program program, uint32_t live_experts,
                                                   const MachineOptions& options) {
  const cuda::StepMachine step(std::move(program), {8, 1024, live_experts}, options);
  std::map<std::string, std::string> reasons;
  for (const StageGroup& group : step.groups()) reasons.emplace(group.name, group.general_reason);
  return reasons;
}

void expect_reason(const std::map<std::string, std::string>& reasons, const char* stage,
                   const std::string& part) {
  EXPECT_NE(reasons.at(stage).find(part), std::string::npos) << stage << ": " << reasons.at(stage);
}

std::map<std::string, std::string> general_reasons(const char* folder, uint32_t live_experts,
                                                   const MachineOptions& options) {
  return general_reasons(plan_of(folder, 1, 8), live_experts, options);
}

TEST(StageGroups, SayWhyAStageHasNoKernelOfItsOwn) {
  Program in_bf16 = plan_of("configs/qwen3-coder-30b-a3b-fp8", 1, 8);
  for (program::WeightDecl& weight : in_bf16.weights) {
    if (weight.count > 1) weight.format = tensor::WeightFormat::kBf16;
  }
  const auto experts = general_reasons(std::move(in_bf16), 52, kFast);
  expect_reason(experts, "expert_gate_up", "expert products have no BF16 weights");
  expect_reason(experts, "expert_down", "expert products have no BF16 weights");
  EXPECT_EQ(experts.at("o_proj"), "");
  MachineOptions options = kFast;
  options.kv_cache = program::KvCacheType::kBf16;
  Program odd = plan_of("configs/llama-3.2-1b", 1, 8);
  for (program::WeightDecl& weight : odd.weights) weight.cols += 2;
  for (program::Stage& stage : odd.stages) {
    if (auto* op = std::get_if<program::AttentionOperands>(&stage.operands)) op->head_dim = 60;
  }
  const auto reasons = general_reasons(std::move(odd), 0, options);
  expect_reason(reasons, "o_proj", "[2048, 2050] in 8 K-chunks");
  expect_reason(reasons, "attention", "not of 60 and 64 in groups of 4");
}

TEST(StageGroups, SayNothingOfStagesWithKernels) {
  MachineOptions options = kFast;
  options.kv_cache = program::KvCacheType::kBf16;
  for (const auto& [folder, live_experts] :
       {std::pair{"configs/llama-3.2-1b", 0u}, std::pair{"models/tiny-mimo", 21u},
        std::pair{"configs/mimo-v2.5-pro", 60u}, std::pair{"configs/mimo-v2.5-pro-fp8", 60u},
        std::pair{"configs/gpt-oss-20b", 21u}, std::pair{"configs/qwen3-8b", 0u},
        std::pair{"configs/qwen3-coder-30b-a3b-fp8", 52u}}) {
    for (const auto& [stage, reason] : general_reasons(folder, live_experts, options)) {
      EXPECT_EQ(reason, "") << folder << ", " << stage;
    }
  }
  options.activations = program::Activations::kF32;
  EXPECT_EQ(general_reasons("configs/gpt-oss-20b", 21, options).at("qkv_proj"), "")
      << "there is no other kernel in f32";
}

// Of a buffer [rows, size]: checks which columns are zeros; the others have numbers, not all zero.
void expect_columns(const std::vector<float>& values, uint32_t size, uint32_t begin, uint32_t end) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t column = static_cast<uint32_t>(i % size);
    ASSERT_TRUE(std::isfinite(values[i])) << i;
    if (column >= begin && column < end) {
      sum += std::abs(values[i]);
    } else {
      ASSERT_EQ(values[i], 0) << i;
    }
  }
  EXPECT_GT(sum, 0);
}

TEST(StepMachine, WritesTheRanksOwnParts) {
  US_NEEDS_GPU();
  constexpr uint32_t kRank = 5;
  MachineOptions options = kFast;
  options.only_rank = kRank;
  cuda::StepMachine step(plan_of("configs/mimo-v2.5-pro", 8, 8), {8, 100, 24}, options);
  const auto stream = cuda::make_stream();
  ASSERT_TRUE(stream);
  const auto loaded = step.load(stream->get());
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto& stages = step.program().stages;
  for (uint32_t i = 0; i < stages.size(); ++i) {
    ASSERT_EQ(step.launch(i, i > 0, stream->get()), cudaSuccess) << stages[i].name;
  }
  ASSERT_EQ(cudaStreamSynchronize(stream->get()), cudaSuccess);
  const auto read = [&](program::BufferId id) {
    std::vector<float> values(step.program().buffers[id].size_bytes / sizeof(float));
    EXPECT_EQ(cudaMemcpy(values.data(), step.machine().buffer(kRank, 0, id),
                         values.size() * sizeof(float), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  };
  const auto of = [&stages](auto op) {  // the last stage of a kind
    const decltype(op)* last = nullptr;
    for (const program::Stage& stage : stages) {
      const auto* found = std::get_if<decltype(op)>(&stage.operands);
      if (found != nullptr) last = found;
    }
    return *last;
  };
  // A K-chunk of the products, and an eighth of the residual and of the logits.
  expect_columns(read(of(program::OutProjOperands()).partials), 8 * 6144, 5 * 6144, 6 * 6144);
  expect_columns(read(of(program::ExpertDownOperands()).partials), 8 * 6144, 5 * 6144, 6 * 6144);
  expect_columns(read(of(program::ReduceOperands()).output), 6144, 5 * 768, 6 * 768);
  expect_columns(read(of(program::LinearOperands()).output), 152576, 5 * 19072, 6 * 19072);
}

TEST(StepBench, MeasuresAStepAndItsStages) {
  US_NEEDS_GPU();
  for (const uint32_t rank : {0u, 5u}) {
    cuda::StepBenchOptions options;
    options.rank = rank;
    options.live_experts = 24;
    options.positions = 300;
    std::vector<std::string> progress;
    options.progress = [&](std::string_view text) { progress.emplace_back(text); };
    const auto bench = measure_step(plan_of("configs/mimo-v2.5-pro", 8, 8), options);
    ASSERT_TRUE(bench) << bench.error().message;
    EXPECT_NE(bench->gpu.name, "");
    ASSERT_EQ(bench->ceiling_us.size(), 15u);
    ASSERT_GE(bench->step_us.size(), 5u);
    EXPECT_NE(bench->data.find("layers share 1 set of 384 experts"), std::string::npos)
        << bench->data;
    double sum_us = 0;
    uint64_t bytes = 0;
    for (const cuda::StageSamples& stage : bench->stages) {
      ASSERT_TRUE(stage.us.size() >= 5 && stage.us.size() <= 31);
      EXPECT_GE(stage.num_launches, stage.count);
      sum_us += stage.count * middle(stage.us);
      bytes += stage.count * stage.bytes;
      // Nothing reads faster than the ceiling.
      const double ceiling = static_cast<double>(bench->ceiling_bytes) / middle(bench->ceiling_us);
      EXPECT_LT(static_cast<double>(stage.bytes) / middle(stage.us), 1.02 * ceiling) << stage.name;
    }
    EXPECT_GT(bytes, uint64_t{4} << 30);
    EXPECT_GT(middle(bench->step_us), 0.5 * sum_us);
    EXPECT_LT(middle(bench->step_us), 1.2 * sum_us);
    EXPECT_GT(progress.size(), 5 * bench->stages.size());
  }
}

TEST(StepBench, TakesFamiliesByTheirShapes) {
  US_NEEDS_GPU();
  for (const auto& [folder, live_experts] :
       {std::pair("configs/llama-3.2-1b", 0u), std::pair("configs/gpt-oss-20b", 4u)}) {
    cuda::StepBenchOptions options;
    options.rows = 1;
    options.live_experts = live_experts;
    options.positions = 200;
    const auto bench = measure_step(plan_of(folder, 1, 8), options);
    ASSERT_TRUE(bench) << bench.error().message;
    uint64_t bytes = 0;
    for (const cuda::StageSamples& stage : bench->stages) bytes += stage.count * stage.bytes;
    // 1.24 B parameters in BF16; of 3.61 B active ones 2.39 B in 17 bytes for 32.
    const double expected = live_experts == 0 ? 2.47e9 : 2 * 1.22e9 + 2.39e9 * 17 / 32;
    EXPECT_NEAR(static_cast<double>(bytes), expected, 0.02 * expected) << folder;
  }
}

TEST(StepBench, TakesEveryModeOnOneRank) {
  US_NEEDS_GPU();
  for (const auto activations :
       {program::Activations::kF32, program::Activations::kW4a16, program::Activations::kW4a8}) {
    for (const auto kv_cache : program::kAllKvCacheTypes) {
      cuda::StepBenchOptions options;
      options.rows = 3;
      options.live_experts = 9;
      options.positions = 100;
      options.activations = activations;
      options.kv_cache = kv_cache;
      const auto bench = measure_step(plan_of("models/tiny-mimo", 1, 8), options);
      ASSERT_TRUE(bench) << bench.error().message;
      EXPECT_GT(middle(bench->step_us), 10);
    }
  }
}

// A rank whose memory alone is here: its neighbour has no scales to round with.
TEST(StepBench, RoundsTheRowsOfOneRankOfTwo) {
  US_NEEDS_GPU();
  cuda::StepBenchOptions options;
  options.rank = 1;
  options.rows = 1;
  options.positions = 100;
  options.kv_cache = program::KvCacheType::kFp8;
  const auto bench = measure_step(plan_of("configs/llama-3.2-1b", 2, 8), options);
  ASSERT_TRUE(bench) << bench.error().message;
}

}  // namespace
}  // namespace ultraspeed::test
