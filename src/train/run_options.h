// What every training run is told, whatever it trains.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <string>

#include "train/flag_list.h"
#include "train/muon.h"

namespace ultraspeed::train {

enum class Schedule : uint8_t { kCosine, kLinear };  // to zero, after the warm-up
enum class MatrixOptimizer : uint8_t { kMuon, kAdamw };

struct RunOptions {
  std::string output;      // the folder that the run writes
  std::string checkpoint;  // the file that a run goes on from; "": none is written
  torch::Device device = torch::kCPU;
  torch::Dtype compute = torch::kFloat32;

  uint64_t seed = 1;
  uint64_t num_steps = 2000;
  MatrixOptimizer matrix_optimizer = MatrixOptimizer::kMuon;  // of matrices of layers
  double learning_rate = 1e-3;                                // of AdamW
  double muon_learning_rate = 5e-3;                           // of Muon
  double warmup = 0.04;                                       // share of steps
  double clip_norm = 1;
  Schedule schedule = Schedule::kCosine;
  MuonScale muon_scale = MuonScale::kMatchRmsAdamw;
  double muon_weight_decay = 0.1;

  uint64_t log_every = 20;
  uint64_t eval_every = 500;
  uint64_t checkpoint_every = 1000;
  double minutes = 0;  // of this process; 0: until the last step

  bool has_muon() const { return matrix_optimizer == MatrixOptimizer::kMuon; }
};

// The share of the learning rate in the step after `step` others.
double schedule_factor(const RunOptions& options, uint64_t step);

// The flags of all of them but the paths. What decides the numbers of a run:
void add_optimisation_flags(FlagList* flags, RunOptions* options);
// What decides no number:
void add_machine_flags(FlagList* flags, RunOptions* options, bool* is_cuda);

// Errors: kInvalidArgument, naming the flags.
Status check_run_options(const RunOptions& options);

// Makes the folders of --out and --checkpoint, whose files are written at the end alone. Errors:
// kIo, naming the flag.
Status check_destinations(const RunOptions& options);

}  // namespace ultraspeed::train
