#include "hub/cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/temporary_directory.h"

namespace ultraspeed::hub {
namespace {

namespace fs = std::filesystem;

const std::string kCommit(40, 'c');
const BlobName kBlob = {HashKind::kSha256, std::string(64, 'b')};

class ModelCacheTest : public testing::Test {
 protected:
  ModelCache cache(const std::string& text) const {
    return ModelCache(directory_.path(), *parse_reference(text));
  }
  void write(const std::string& name, const std::string& text) const {
    const fs::path path = fs::path(directory_.path()) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::string refusal(const std::string& text) const {
    const auto found = cache(text).find();
    if (found) return "";
    EXPECT_EQ(found.error().code, ErrorCode::kNotFound);
    return found.error().message;
  }

  const test::TemporaryDirectory directory_;
  const std::string folder_ = directory_.path() + "/models--org--model";
};

TEST_F(ModelCacheTest, FindsWhatOthersHaveDownloaded) {
  write("models--org--model/refs/main", kCommit);
  write("models--org--model/refs/refs/pr/1", kCommit);
  write("models--org--model/snapshots/" + kCommit + "/config.json", "{}");
  const std::string snapshot = folder_ + "/snapshots/" + kCommit;
  for (const std::string& text :
       {std::string("org/model"), "org/model@" + kCommit, std::string("org/model@refs/pr/1")}) {
    EXPECT_EQ(cache(text).find(), snapshot) << text;
  }
}

TEST_F(ModelCacheTest, SaysWhereItLookedAndWhatToDo) {
  const std::string looked =
      "org/model: no such folder, and not in the Hugging Face cache " + directory_.path();
  EXPECT_EQ(refusal("org/model"), looked + "; 'ultraspeed pull org/model' downloads it");
  write("models--org--model/refs/v2", kCommit);
  EXPECT_EQ(refusal("org/model"), looked +
                                      ", which has of its revisions only v2; 'ultraspeed pull "
                                      "org/model' downloads it");
  EXPECT_NE(refusal("org/model@v2").find("'ultraspeed pull org/model@v2'"), std::string::npos);
  write("models--org--model/refs/main", "../../../etc");
  EXPECT_NE(refusal("org/model"), "");
}

TEST_F(ModelCacheTest, LinksAreRelativeToTheirDepth) {
  const ModelCache model = cache("org/model");
  write("models--org--model/blobs/" + kBlob.hex, "bytes");
  for (const std::string& path : {std::string("config.json"), std::string("dflash/config.json")}) {
    EXPECT_FALSE(model.has_link(kCommit, path, kBlob));
    ASSERT_TRUE(model.link(kCommit, path, kBlob));
    EXPECT_TRUE(model.has_link(kCommit, path, kBlob));
    std::stringstream text;
    text << std::ifstream(model.snapshot(kCommit) + "/" + path).rdbuf();
    EXPECT_EQ(text.str(), "bytes");
  }
  EXPECT_EQ(fs::read_symlink(model.snapshot(kCommit) + "/config.json"), "../../blobs/" + kBlob.hex);
  const BlobName other = {HashKind::kGitSha1, std::string(40, 'a')};
  EXPECT_FALSE(model.has_link(kCommit, "config.json", other));
  ASSERT_TRUE(model.link(kCommit, "config.json", other)) << "replaces the link";
  EXPECT_FALSE(model.has_link(kCommit, "config.json", other)) << "leads nowhere";
}

TEST_F(ModelCacheTest, NotesWhereARevisionIs) {
  ASSERT_TRUE(cache("org/model@refs/pr/1").write_ref(kCommit));
  std::stringstream text;
  text << std::ifstream(folder_ + "/refs/refs/pr/1").rdbuf();
  EXPECT_EQ(text.str(), kCommit);
  ASSERT_TRUE(cache("org/model@" + kCommit).write_ref(kCommit));
  EXPECT_FALSE(fs::exists(folder_ + "/refs/" + kCommit)) << "a commit is its own name";
}

TEST(ModelOfSnapshot, IsTheFoldersName) {
  EXPECT_EQ(model_of_snapshot("/c/models--org--my-model/snapshots/" + kCommit), "org/my-model");
  EXPECT_EQ(model_of_snapshot("/c/models--org--model/snapshots/x/dflash"), "org/model");
  for (const char* path : {"", "/", "model", "/c/models--org/snapshots/x", "/snapshots/x",
                           "/c/models--org--model/blobs/x"}) {
    EXPECT_EQ(model_of_snapshot(path), "") << path;
  }
}

}  // namespace
}  // namespace ultraspeed::hub
