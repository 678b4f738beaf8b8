#include "cuda/weight_source.h"

namespace ultraspeed::cuda {

using program::Program;
using program::WeightId;

WeightPlaces places_in_order(const Program& program, std::span<const WeightForm> forms) {
  WeightPlaces places;
  for (WeightId id = 0; id < program.weights.size(); ++id) {
    places.offsets.push_back(places.size_bytes);
    places.size_bytes += program.weights[id].count * form_bytes(program, id, forms[id]);
  }
  return places;
}

Status ReadWeights::begin_rank(std::span<const Program> programs, uint32_t rank,
                               bool wants_kv_scales) {
  programs_ = programs;
  rank_ = rank;
  kv_scales_.reset();
  if (wants_kv_scales) kv_scales_.emplace(programs);
  return {};
}

Status ReadWeights::fill(WeightId id, WeightForm form, std::byte* memory) {
  const program::WeightDecl& decl = programs_[0].weights[id];
  const uint64_t size_bytes = form_bytes(programs_[0], id, form);
  if (staging_.size_bytes() < size_bytes) {
    US_ASSIGN(staging_, PinnedMemory::allocate(size_bytes));
  }
  for (uint32_t index = 0; index < decl.count; ++index, memory += size_bytes) {
    std::span<std::byte> packed(staging_.data(), decl.matrix_bytes());
    if (form != WeightForm::kCanonical) {
      canonical_.resize(decl.matrix_bytes());
      packed = canonical_;
    }
    US_TRY(read_weight_(rank_, id, index, packed));
    if (kv_scales_) kv_scales_->take(id, packed);
    if (form != WeightForm::kCanonical) {
      US_TRY(to_pages(programs_, id, form, packed, {staging_.data(), size_bytes}));
    }
    US_TRY(cuda_status(cudaMemcpy(memory, staging_.data(), size_bytes, cudaMemcpyHostToDevice),
                       fmt::format("copying {} to the device", decl.name)));
  }
  return {};
}

}  // namespace ultraspeed::cuda
