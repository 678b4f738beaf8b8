#include "cuda/persistent_executors.h"

#include "base/check.h"

namespace ultraspeed::cuda {

Status ResidentExecutor::copy_cache(const program::CacheCopy& copy) {
  const DeviceTurn turn(this);
  US_TRY(stop());
  US_TRY(machine_.copy_cache(copy, stream_.get()));
  return cuda_status(cudaStreamSynchronize(stream_.get()), "copying a KV cache");
}

std::unique_ptr<program::Executor> make_persistent_executor(const PersistentOptions& options) {
  const bool is_f32 = options.activations == program::Activations::kF32;
  US_CHECK(is_f32 ? options.kv_cache == program::KvCacheType::kF32
                  : options.activations == program::Activations::kW4a8);
  return is_f32 ? make_task_executor(options) : make_phase_executor(options);
}

}  // namespace ultraspeed::cuda
