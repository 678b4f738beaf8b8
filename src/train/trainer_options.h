// What a training run is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/drafter_files.h"
#include "train/drafter_net.h"
#include "train/losses.h"
#include "train/muon.h"

namespace ultraspeed::train {

enum class Schedule : uint8_t { kCosine, kLinear };  // to zero, after the warm-up

struct TrainerOptions {
  std::string features;       // the folder of shards
  std::string eval_features;  // "": no evaluation
  std::string tables;         // the target's frozen tables
  std::string output;         // the drafter's folder
  std::string checkpoint;     // the file that a run goes on from; "": none is written
  std::string warm_start;     // a drafter's folder whose weights the net begins with; "": none

  // Which of the shards' taps the drafter reads; empty: all.
  std::vector<uint32_t> taps;
  // What the shards do not say of the drafter: sizes, window, mask token. The rest is filled in.
  model::DrafterConfig drafter;
  torch::Device device = torch::kCPU;
  torch::Dtype compute = torch::kFloat32;
  LinearFormat format = LinearFormat::kBf16;
  bool has_codebooks = false;          // NetOptions'
  bool trains_selector_alone = false;  // the rest stays as it begins
  double fp8_from = 0.7;  // with kFp8: the share of steps after which matrices act as rounded

  uint64_t seed = 1;
  uint64_t num_steps = 2000;
  uint32_t sequences_per_pass = 16;
  uint32_t passes_per_step = 1;  // whose gradients are added up
  uint32_t blocks_per_sequence = 64;
  double learning_rate = 1e-3;       // of AdamW
  double muon_learning_rate = 5e-3;  // of Muon
  double warmup = 0.04;              // share of steps
  double clip_norm = 1;
  Schedule schedule = Schedule::kCosine;
  MuonScale muon_scale = MuonScale::kMatchRmsAdamw;
  double muon_weight_decay = 0.1;
  LossOptions loss;

  uint64_t log_every = 20;
  uint64_t eval_every = 500;
  uint32_t eval_sequences = 64;
  uint64_t checkpoint_every = 1000;
  double minutes = 0;  // of this process; 0: until the last step
};

// The share of the learning rate in the step after `step` others.
double schedule_factor(const TrainerOptions& options, uint64_t step);

// What two processes must agree on to be parts of one run.
std::string describe_run(const TrainerOptions& options);

}  // namespace ultraspeed::train
