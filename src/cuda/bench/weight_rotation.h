// Where synthetic weights lie: layers share memory in turn, so that a program of any size fits and
// nothing is in the L2 cache when its turn comes again.
//
// Weights of one shape and form are a kind. Of a kind that its stages read whole there are as many
// sets as sets_to_rotate() asks for, or one for each weight if those are fewer. Of experts a step
// reads but the live ones, so a set serves several layers before any of its experts is read again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cuda/weight_source.h"
#include "program/program.h"

namespace ultraspeed::cuda {

struct WeightRotation {
  WeightPlaces places;
  std::vector<uint32_t> index;    // [WeightId]: among its kind, in the order of ids
  uint64_t whole_bytes = 0;       // if every weight had memory of its own
  uint32_t num_expert_sets = 0;   // of each kind of experts; 0: there are none
  uint32_t experts_in_a_set = 0;  // matrices
  uint32_t live_experts = 0;      // of a layer
  bool is_whole = false;          // no two layers share experts

  // The live experts of the layer with this weight: others than those of the layers that share its
  // set, as long as the set has others.
  std::vector<uint32_t> live(program::WeightId id) const;

  std::string text() const;  // for people
};

// is_whole: every layer of experts gets memory of its own. REQUIRES: 1 <= live_experts <= experts
// of a layer, if there are any; all layers of experts have as many.
WeightRotation rotate_weights(const program::Program& program, std::span<const WeightForm> forms,
                              uint32_t live_experts, bool is_whole);

// Random weights in these places, finite and such that products of values near 1 are near 1;
// tokens' rows are larger, routers and their biases smaller.
class SyntheticWeights final : public WeightSource {
 public:
  // REQUIRES: rotation outlives it.
  explicit SyntheticWeights(const WeightRotation& rotation) : rotation_(rotation) {}

  WeightPlaces places(const program::Program&, std::span<const WeightForm>) const override {
    return rotation_.places;
  }
  Status begin_rank(std::span<const program::Program> programs, uint32_t rank,
                    bool wants_kv_scales) override;
  Status fill(program::WeightId id, WeightForm form, std::byte* memory) override;
  // Those of matrices with as large values as these.
  program::KvScaleTable kv_scales() const override;

 private:
  const WeightRotation& rotation_;
  std::span<const program::Program> programs_;
};

}  // namespace ultraspeed::cuda
