// What the training of a drafter is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/drafter_files.h"
#include "train/drafter_net.h"
#include "train/losses.h"
#include "train/run_options.h"

namespace ultraspeed::train {

struct TrainerOptions : RunOptions {
  std::string features;         // the folder of shards
  uint64_t features_sum = 0;    // its checksum, which is filled in
  std::string eval_features;    // "": no evaluation
  std::string tables;           // the target's frozen tables
  std::string warm_start;       // a drafter's folder whose weights the net begins with; "": none
  uint64_t warm_start_sum = 0;  // its checksum, which is filled in

  // Which of the shards' taps the drafter reads; empty: all.
  std::vector<uint32_t> taps;
  // What the shards do not say of the drafter: sizes, window, mask token. The rest is filled in.
  model::DrafterConfig drafter;
  LinearFormat format = LinearFormat::kBf16;
  bool trains_selector_alone = false;  // the rest stays as it begins
  double fp8_from = 0.7;  // with kFp8: the share of steps after which matrices act as rounded

  uint32_t sequences_per_pass = 16;
  uint32_t passes_per_step = 1;  // whose gradients are added up
  uint32_t blocks_per_sequence = 64;
  LossOptions loss;
  uint32_t eval_sequences = 64;
};

// What two processes must agree on to be parts of one run.
std::string describe_run(const TrainerOptions& options);

}  // namespace ultraspeed::train
