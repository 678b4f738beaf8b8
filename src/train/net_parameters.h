// The parameters of a net: named tensors in a master type, on a device.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ultraspeed::train {

// Kept apart because they are optimised differently.
enum class ParameterKind : uint8_t {
  kMatrix,  // [..., rows, columns], of layers: Muon
  kVector,  // all else that has a gradient: AdamW
  kState,   // set by a rule of the net's own, without gradient
};

struct Parameter {
  std::string name;  // as the net's files call it
  ParameterKind kind = ParameterKind::kMatrix;
  torch::Tensor value;  // requires_grad, but for kState
  double unit = 1;      // how large its numbers are where other matrices' are 1

  bool is_of_selector() const { return name.starts_with("selector."); }
};

struct NetOptions {
  torch::Dtype master = torch::kFloat32;
  torch::Dtype compute = torch::kFloat32;
  torch::Device device = torch::kCPU;
  bool rounds = false;  // matrices act as their export will; gradients pass through
};

class ParameterSet {
 public:
  explicit ParameterSet(const NetOptions& options) : options_(options) {}

  void add(const std::string& name, ParameterKind kind, const torch::Tensor& value);
  // CHECKs that there is one of this name.
  const torch::Tensor& at(const std::string& name) const;
  // Overwrites a parameter, keeping its type and device. REQUIRES: the same shape.
  void set(const std::string& name, const torch::Tensor& value);

  std::vector<Parameter>& all() { return all_; }
  const std::vector<Parameter>& all() const { return all_; }

 private:
  NetOptions options_;
  std::vector<Parameter> all_;
};

// A function of sizes and seed alone, f32 on the processor.
torch::Tensor random_normal(at::IntArrayRef sizes, uint64_t seed);

}  // namespace ultraspeed::train
