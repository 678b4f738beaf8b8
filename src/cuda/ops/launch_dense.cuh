// Launches of dense.h for one format of weights. Sources dense_fp8.cu and dense_bf16.cu have the
// kernels of one each, because there are many; dense.cu chooses.
#pragma once

#include <algorithm>

#include "cuda/ops/dense.cuh"
#include "cuda/ops/dense_pages.h"
#include "cuda/ops/launch.cuh"
#include "cuda/tile/dense_matrix.h"

namespace ultraspeed::cuda {

template <class Page>
cudaError_t set_dense_clusters(DenseLaunch* launch) {
  return for_width(launch->columns, [&](auto width) {
    using Plan = DensePlan<Page, width>;
    int device = 0, multiprocessors = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) return error;
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (error != cudaSuccess) return error;
    error =
        count_clusters(dense_kernel<Plan, DenseStore, DenseLaunch::Work::kProducts>, kDenseRanks,
                       kStreamThreads, DenseShared<Plan>::kBytes, &launch->clusters);
    launch->clusters =
        std::min(launch->clusters, static_cast<uint32_t>(multiprocessors) / kDenseRanks);
    return error;
  });
}

template <class Page, class Epilogue>
cudaError_t launch_dense_pages(const DenseLaunch& launch, const Epilogue& epilogue,
                               cudaStream_t stream) {
  return for_width(launch.columns, [&](auto width) {
    using Plan = DensePlan<Page, width>;
    using Work = DenseLaunch::Work;
    if (!has_dense_kernels({launch.format, launch.rows, launch.k, launch.num_chunks}) ||
        launch.clusters == 0) {
      return cudaErrorInvalidValue;
    }
    DenseLaunch paged = launch;
    set_pages(&paged);
    const uint32_t units = (launch.rows + kDenseTileRows - 1) / kDenseTileRows * launch.num_chunks;
    const LaunchSize size = {dim3(std::min(launch.clusters, units) * kDenseRanks), kStreamThreads,
                             DenseShared<Plan>::kBytes};
    if (launch.work == Work::kDrain) {
      return launch_with(dense_kernel<Plan, DenseNothing, Work::kDrain>, size,
                         {starts_early(), spreads_clusters()}, stream, paged, DenseNothing());
    }
    return launch_with(dense_kernel<Plan, Epilogue, Work::kProducts>, size,
                       {starts_early(), spreads_clusters()}, stream, paged, epilogue);
  });
}

// What a source defines for its format.
#define US_DENSE_KERNELS(Page)                                                            \
  template cudaError_t set_dense_clusters<Page>(DenseLaunch*);                            \
  template cudaError_t launch_dense_pages<Page>(const DenseLaunch&, const DenseStore&,    \
                                                cudaStream_t);                            \
  template cudaError_t launch_dense_pages<Page>(const DenseLaunch&, const DensePartials&, \
                                                cudaStream_t);                            \
  template cudaError_t launch_dense_pages<Page>(const DenseLaunch&, const DenseSwiglu&,   \
                                                cudaStream_t);                            \
  template cudaError_t launch_dense_pages<Page>(const DenseLaunch&, const DenseQkv&, cudaStream_t)

}  // namespace ultraspeed::cuda
