// What opening a model says to users, who know flags.
#include "apps/loaded_model.h"

#include <gtest/gtest.h>

#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

TEST(LoadedModel, ALackOfMemoryIsSaidWithTheFlagsOfTheCommand) {
  const test::TemporaryDirectory directory;
  ASSERT_TRUE(test::write_checkpoint(directory.path(), test::GeneratorOptions()));
  ModelOptions options;
  options.directory = directory.path();
  options.executor.kind = ExecutorKind::kCpu;
  const auto model = LoadedModel::open(options);
  ASSERT_TRUE(model) << model.error().message;
  const auto refusal = [&](const std::string& sessions_flag) {
    options.sessions_flag = sessions_flag;
    const auto engine = model->open_engine(options, 1U << 24);
    EXPECT_FALSE(engine);
    if (engine) return std::string();
    EXPECT_EQ(engine.error().code, ErrorCode::kOutOfMemory);
    EXPECT_EQ(engine.error().message.find('_'), std::string::npos) << "of EngineOptions";
    return engine.error().message;
  };
  const std::string run = refusal(""), serve = refusal("--max-sessions");
  EXPECT_TRUE(run.ends_with(" MiB; lower --context for smaller caches")) << run;
  EXPECT_TRUE(serve.ends_with(" MiB; lower --context or --max-sessions for smaller caches"))
      << serve;
}

}  // namespace
}  // namespace ultraspeed::apps
