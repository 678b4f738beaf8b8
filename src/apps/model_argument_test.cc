// One rule for every command: a folder that exists, else a name in the cache.
#include "apps/model_argument.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "apps/loaded_model.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/environment.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

namespace fs = std::filesystem;

class ModelArgument : public testing::Test {
 protected:
  ModelArgument() { environment_.set("HF_HUB_CACHE", cache_.path()); }

  // The folder of a snapshot of org/NAME, which `main` is at.
  std::string add_snapshot(const std::string& name) const {
    const std::string folder = cache_.path() + "/models--org--" + name;
    const std::string commit(40, 'c');
    fs::create_directories(folder + "/refs");
    fs::create_directories(folder + "/snapshots/" + commit);
    std::ofstream(folder + "/refs/main") << commit;
    return folder + "/snapshots/" + commit;
  }

  const test::TemporaryDirectory cache_;
  test::Environment environment_;
};

TEST_F(ModelArgument, AFolderThatExistsComesFirst) {
  const std::string snapshot = add_snapshot("model");
  EXPECT_EQ(find_folder("org/model"), snapshot);
  EXPECT_EQ(find_folder(snapshot + "//"), snapshot);
  const test::TemporaryDirectory here;
  const fs::path before = fs::current_path();
  fs::current_path(here.path());
  fs::create_directories("org/model");
  EXPECT_EQ(find_folder("org/model"), "org/model");
  EXPECT_EQ(find_folder("./org/model"), "./org/model");
  fs::current_path(before);
}

TEST_F(ModelArgument, WhatIsNotThereIsSaidWithWhatToDo) {
  const auto none = find_model_folder("org/none");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, "org/none: no such folder, and not in the Hugging Face cache " +
                                      cache_.path() + "; 'ultraspeed pull org/none' downloads it");
  EXPECT_EQ(find_folder("./none"), "./none") << "no name";
  const std::string snapshot = add_snapshot("model");
  const auto empty = find_model_folder("org/model");
  ASSERT_FALSE(empty);
  EXPECT_TRUE(
      empty.error().message.ends_with("; 'ultraspeed pull org/model' downloads what is missing"))
      << empty.error().message;
}

TEST_F(ModelArgument, AModelIsCalledByItsNameOrItsFolders) {
  EXPECT_EQ(model_name(add_snapshot("model")), "org/model");
  fs::create_directories(cache_.path() + "/tiny/x");
  EXPECT_EQ(model_name(cache_.path() + "/tiny/x/.."), "tiny");
  EXPECT_EQ(model_name("none"), "none");
}

TEST_F(ModelArgument, ModelsAndDraftersOpenByName) {
  const std::string model = add_snapshot("model"), drafter = add_snapshot("drafter");
  ASSERT_TRUE(test::write_checkpoint(model, test::GeneratorOptions()));
  ASSERT_TRUE(test::write_drafter(drafter, test::DrafterOptions()));
  ModelOptions options;
  options.directory = "org/model";
  options.speculation.drafter = parse_drafter("org/drafter").value();
  const auto loaded = LoadedModel::open(options);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->directory(), model);
  EXPECT_EQ(loaded->speculation().dflash()->config().file, drafter + "/config.json");
  options.speculation.drafter = parse_drafter("org/none").value();
  const auto no_drafter = LoadedModel::open(options);
  ASSERT_FALSE(no_drafter);
  EXPECT_TRUE(
      no_drafter.error().message.starts_with("--drafter org/none: no such folder, and not "
                                             "in the Hugging Face cache"));
  fs::remove(model + "/model.safetensors");
  const auto no_weights = LoadedModel::open(options);
  ASSERT_FALSE(no_weights);
  EXPECT_TRUE(no_weights.error().message.ends_with(
      "; 'ultraspeed pull org/model' downloads what is missing"))
      << no_weights.error().message;
}

}  // namespace
}  // namespace ultraspeed::apps
