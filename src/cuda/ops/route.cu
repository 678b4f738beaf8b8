// Launches of Route: a cluster of CTAs a rank.
#include "cuda/ops/route.cuh"

#include <algorithm>

#include "cuda/ops/launch.cuh"
#include "cuda/ops/stage.h"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kMaxRouteCtas = 8;

// Of a CTA's warps: with many experts a lane has as many registers as only few warps may have.
template <uint32_t kOfLane>
inline constexpr uint32_t kRouteWarps = kOfLane > 16 ? 8 : 16;

// Cluster r has task r.
template <uint32_t kOfLane>
__global__ void __launch_bounds__(kRouteWarps<kOfLane>* kWarpThreads)
    route_kernel(const __grid_constant__ StageLaunch launch,
                 const __grid_constant__ program::RouteOperands op) {
  extern __shared__ __align__(16) std::byte shared[];
  __shared__ uint32_t totals[kRouteWarps<kOfLane>];
  __shared__ __align__(16) ColumnShared of_warps[kRouteWarps<kOfLane>];
  const uint32_t ctas = gridDim.x / launch.num_tasks;
  const RankTask& of_cluster = launch.tasks[ptx::cluster_index()];
  const OpContext context(launch.machine, launch.buffer_offsets, *launch.step, of_cluster.task,
                          of_cluster.rank, shared);
  RouteCta<kOfLane, kMaxRouteCtas, kRouteWarps<kOfLane>> cta(context, op, ctas);
  ptx::launch_dependents();
  cta.prepare();
  ptx::wait_for_grids();
  cta.run(context.num_columns(), totals, of_warps);
}

// Columns a CTA, about: fewer make the cluster's exchange longer than the choices.
constexpr uint32_t kShare = 8;

template <uint32_t kOfLane>
cudaError_t launch_route(const program::RouteOperands& op, const StageLaunch& launch) {
  const uint32_t width = op.max_pairs / op.top_k;
  const uint32_t ctas = std::clamp((width + kShare - 1) / kShare, 1u, kMaxRouteCtas);
  const LaunchSize size = {dim3(ctas * launch.num_tasks), kRouteWarps<kOfLane> * kWarpThreads,
                           route_shared_bytes<kMaxRouteCtas>(op)};
  auto* kernel = route_kernel<kOfLane>;
  if (!launch.follows_stage) {
    return launch_with(kernel, size, {has_clusters(ctas)}, launch.stream, launch, op);
  }
  return launch_with(kernel, size, {has_clusters(ctas), starts_early()}, launch.stream, launch, op);
}

}  // namespace

const char* stage_limit(const program::RouteOperands& op, uint32_t width) {
  if (width > kMaxColumns) return "more than 512 columns";
  if (op.num_experts > kMaxRouteExperts) return "more than 2048 experts";
  return op.top_k > kMaxTopK ? "more than 32 experts a column" : nullptr;
}

cudaError_t launch_stage(const program::RouteOperands& op, const StageLaunch& launch) {
  const uint32_t of_lane = (op.num_experts + kWarpThreads - 1) / kWarpThreads;
  if (of_lane <= 4) return launch_route<4>(op, launch);
  if (of_lane <= 8) return launch_route<8>(op, launch);
  if (of_lane <= 12) return launch_route<12>(op, launch);
  if (of_lane <= 16) return launch_route<16>(op, launch);
  return launch_route<kMaxRouteExperts / kWarpThreads>(op, launch);
}

}  // namespace ultraspeed::cuda
