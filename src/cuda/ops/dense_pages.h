// The launches of dense.h for one format of weights: dense_fp8.cu and dense_bf16.cu define them
// (launch_dense.cuh).
#pragma once

#include "cuda/ops/dense.h"
#include "cuda/tile/dense_page.h"

namespace ultraspeed::cuda {

template <class Page>
cudaError_t set_dense_clusters(DenseLaunch* launch);

template <class Page, class Epilogue>
cudaError_t launch_dense_pages(const DenseLaunch& launch, const Epilogue& epilogue,
                               cudaStream_t stream);

}  // namespace ultraspeed::cuda
