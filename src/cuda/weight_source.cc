#include "cuda/weight_source.h"

#include <algorithm>

#include "base/workers.h"

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
  constexpr uint64_t kStagedBytes = uint64_t{256} << 20;
  const program::WeightDecl& decl = programs_[0].weights[id];
  const uint64_t size_bytes = form_bytes(programs_[0], id, form);
  const auto num_staged = static_cast<uint32_t>(
      std::clamp<uint64_t>(kStagedBytes / std::max<uint64_t>(size_bytes, 1), 1, decl.count));
  if (staging_.size_bytes() < num_staged * size_bytes) {
    US_ASSIGN(staging_, PinnedMemory::allocate(num_staged * size_bytes));
  }
  const uint32_t num_threads = loading_threads();
  canonical_.resize(num_threads);
  for (uint32_t first = 0; first < decl.count; first += num_staged) {
    const uint32_t count = std::min(num_staged, decl.count - first);
    const auto read_one = [&](uint32_t worker, size_t i) {
      return read(id, first + static_cast<uint32_t>(i), form, &canonical_[worker],
                  {staging_.data() + i * size_bytes, size_bytes});
    };
    US_TRY(run_jobs(num_threads, count, read_one));
    US_TRY(cuda_status(cudaMemcpy(memory + first * size_bytes, staging_.data(), count * size_bytes,
                                  cudaMemcpyHostToDevice),
                       fmt::format("copying {} to the device", decl.name)));
  }
  return {};
}

Status ReadWeights::read(WeightId id, uint32_t index, WeightForm form,
                         std::vector<std::byte>* canonical, std::span<std::byte> out) {
  const uint64_t packed_bytes = programs_[0].weights[id].matrix_bytes();
  std::span<std::byte> packed = out;
  if (form == WeightForm::kCanonical) {
    packed = out.first(packed_bytes);
  } else {
    canonical->resize(packed_bytes);
    packed = *canonical;
  }
  US_TRY(read_weight_(rank_, id, index, packed));
  if (kv_scales_) {
    const std::lock_guard lock(kv_scales_mutex_);
    kv_scales_->take(id, packed);
  }
  if (form == WeightForm::kCanonical) return {};
  return to_pages(programs_, id, form, packed, out);
}

}  // namespace ultraspeed::cuda
