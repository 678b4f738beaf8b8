// A net with the weights of a drafter's files.
#pragma once

#include "model/drafter.h"
#include "train/drafter_net.h"

namespace ultraspeed::test {

// CHECKs that the folder is a drafter that can be trained.
train::DrafterNet net_of(const std::string& directory, const train::NetOptions& options);

// The values of a matrix or vector of BF16, F32 or FP8, as f32.
torch::Tensor tensor_of(const std::vector<float>& values, at::IntArrayRef shape);

}  // namespace ultraspeed::test
