#include "hub/listing.h"

#include <gtest/gtest.h>

namespace ultraspeed::hub {
namespace {

const std::string kListed(40, 'a');

std::string listing_json(const std::string& siblings) {
  return R"({"sha":")" + kListed + R"(","siblings":[)" + siblings + "]}";
}

std::string refusal(const std::string& json) {
  const auto listing = parse_listing("org/model", json);
  return listing ? "" : listing.error().message;
}

std::vector<std::string> chosen(const std::vector<std::string>& paths, const FileChoice& choice) {
  Listing listing;
  for (const std::string& path : paths) listing.files.push_back({path, {}, {}});
  std::vector<std::string> names;
  for (const RepositoryFile& file : choose_files(listing, choice)) names.push_back(file.path);
  return names;
}

TEST(HubListing, ReadsSizesAndHashes) {
  const std::string sha256(64, 'b'), sha1(40, 'c');
  const auto listing = parse_listing(
      "org/model",
      listing_json(R"({"rfilename":"model.safetensors","size":134,"blobId":")" + kListed +
                   R"(","lfs":{"sha256":")" + sha256 + R"(","size":7,"pointerSize":9}},)" +
                   R"({"rfilename":"config.json","size":3,"blobId":")" + sha1 +
                   R"("},{"rfilename":"x.json"})"));
  ASSERT_TRUE(listing) << listing.error().message;
  EXPECT_EQ(listing->commit, kListed);
  ASSERT_EQ(listing->files.size(), 3u);
  EXPECT_EQ(listing->files[0].blob->hex, sha256);
  EXPECT_EQ(listing->files[0].size, 7u) << "of the file, not of what points to it";
  EXPECT_EQ(listing->files[0].blob->kind, HashKind::kSha256);
  EXPECT_EQ(listing->files[1].blob->hex, sha1);
  EXPECT_EQ(listing->files[1].size, 3u);
  EXPECT_FALSE(listing->files[2].blob);
  EXPECT_FALSE(listing->files[2].size);
}

TEST(HubListing, RefusesWhatAHubShouldNotSend) {
  EXPECT_TRUE(refusal("<html>").starts_with("org/model: not a JSON object; expected"));
  EXPECT_TRUE(refusal("[]").starts_with("org/model: not a JSON object"));
  EXPECT_TRUE(refusal(R"({"sha":"../x","siblings":[]})").starts_with("org/model: no commit"));
  EXPECT_EQ(refusal(R"({"sha":")" + kListed + "\"}"), "org/model: no list of files (siblings)");
  EXPECT_EQ(refusal(listing_json("{}")), "org/model: a file has no name (rfilename)");
  EXPECT_EQ(refusal(listing_json("7")), "org/model: a file has no name (rfilename)");
  for (const char* path : {"../x.json", "/etc/x.json", "a/../../x", "a\\\\b", ""}) {
    EXPECT_NE(refusal(listing_json(R"({"rfilename":")" + std::string(path) + "\"}"))
                  .find("which could lie outside its folder"),
              std::string::npos)
        << path;
  }
  EXPECT_EQ(refusal(listing_json(R"({"rfilename":"a"},{"rfilename":"a"})")),
            "org/model: 'a' is listed twice");
}

TEST(HubListing, ChoosesWhatAnEngineNeeds) {
  const std::vector<std::string> paths = {".gitattributes",
                                          "README.md",
                                          "model-00002-of-00002.safetensors",
                                          "model-00001-of-00002.safetensors",
                                          "consolidated.safetensors",
                                          "pytorch_model.bin",
                                          "model-q4.gguf",
                                          "original/model.safetensors",
                                          "onnx/model.onnx",
                                          "dflash/model.safetensors",
                                          "dflash/config.json",
                                          "dflash/mask_embedding.pt",
                                          "dflash/figures/x.json",
                                          "optimizer.pt",
                                          "merges.txt",
                                          "tokenizer.json",
                                          "chat_template.jinja",
                                          "config.json"};
  EXPECT_EQ(chosen(paths, {}), (std::vector<std::string>{
                                   "chat_template.jinja", "config.json", "dflash/config.json",
                                   "dflash/mask_embedding.pt", "merges.txt", "tokenizer.json",
                                   "dflash/model.safetensors", "model-00001-of-00002.safetensors",
                                   "model-00002-of-00002.safetensors"}));
  EXPECT_EQ(chosen(paths, {.include = {"*.md", "original/*"}, .exclude = {}}),
            (std::vector<std::string>{"README.md", "original/model.safetensors"}));
  EXPECT_EQ(chosen({"a.json", "dflash/config.json"}, {.include = {}, .exclude = {"dflash/*"}}),
            (std::vector<std::string>{"a.json"}));
}

TEST(HubListing, SaysWhichWeightsThereAreInstead) {
  const auto said = [](const std::vector<std::string>& paths) {
    Listing listing;
    for (const std::string& path : paths) listing.files.push_back({path, {}, {}});
    const Status status = check_has_weights("org/model", listing, choose_files(listing, {}));
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(said({"config.json", "model.safetensors"}), "");
  EXPECT_TRUE(said({"config.json", "pytorch_model.bin"})
                  .starts_with("org/model: no *.safetensors, but *.bin; expected"));
  EXPECT_TRUE(said({"a.gguf", "b.gguf"}).starts_with("org/model: no config.json, but *.gguf; "));
}

}  // namespace
}  // namespace ultraspeed::hub
