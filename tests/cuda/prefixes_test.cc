// Prefixes and preemption on a GPU: slots and pages that other sessions left hold what a prompt
// computed from its begin would leave there, bit by bit.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "cuda/executor.h"
#include "cuda/gpu.h"
#include "engine/conversations.h"
#include "engine/model_texts.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

struct PrefixMode {
  std::string name;
  std::function<std::unique_ptr<program::Executor>()> make_executor;
};

std::unique_ptr<program::Executor> persistent_w4a8() {
  cuda::PersistentOptions options;
  options.activations = program::Activations::kW4a8;
  options.kv_cache = program::KvCacheType::kBf16;
  return cuda::make_persistent_executor(options);
}

std::unique_ptr<program::Executor> graph_w4a8() {
  return cuda::make_graph_executor(program::Activations::kW4a8, program::KvCacheType::kBf16);
}

class GpuPrefixes : public testing::TestWithParam<PrefixMode> {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }
};

INSTANTIATE_TEST_SUITE_P(
    Executors, GpuPrefixes,
    testing::Values(PrefixMode{"graph_f32", [] { return cuda::make_graph_executor(); }},
                    PrefixMode{"graph_w4a8", graph_w4a8},
                    PrefixMode{"persistent_f32", [] { return cuda::make_persistent_executor(); }},
                    PrefixMode{"persistent_w4a8", persistent_w4a8}),
    [](const auto& mode) { return mode.param.name; });

TEST_P(GpuPrefixes, ChangeNoText) {
  engine::Setup setup;
  setup.make_executor = GetParam().make_executor;
  setup.num_threads = test::kGpuWorkers;
  const auto reference = open(setup);
  for (const bool has_dflash : {true, false}) {
    engine::Setup cached = has_dflash
                               ? bundled_setup(8, test::kGpuWorkers)
                               : engine::Setup{{DrafterKind::kSuffix, 1}, 8, test::kGpuWorkers};
    cached.make_executor = GetParam().make_executor;
    cached.num_cached_prefixes = 3;
    cached.num_kv_pages = 1024 / 64 + 8;
    SCOPED_TRACE(setup_name(cached));
    const auto engine = open(cached);
    Conversations conversations(*engine, {1024, 12'000});
    conversations.run(test::scaled(240));
    conversations.expect_texts_of(*reference);
    EXPECT_GT(conversations.num_taken_over(), test::at_least(4u));
  }
}

}  // namespace
}  // namespace ultraspeed::engine
