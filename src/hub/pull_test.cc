// Downloads from a hub on loopback, whole and with everything that may go wrong.
#include "hub/pull.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "hub/blob_download.h"
#include "hub/loopback_hub.h"
#include "support/temporary_directory.h"

namespace ultraspeed::hub {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class PullTest : public testing::Test {
 protected:
  PullTest() {
    weights_.resize(300'000);
    for (size_t i = 0; i < weights_.size(); ++i) weights_[i] = static_cast<char>(i * 31 + i / 251);
    hub.files = {{"config.json", {.content = "{\"model_type\":\"llama\"}"}},
                 {"model.safetensors", {.content = weights_, .is_lfs = true}},
                 {"dflash/config.json", {.content = "{}"}},
                 {"README.md", {.content = "read me"}}};
    options.model = *parse_reference("org/model");
    options.cache_folder = directory_.path() + "/hub";
    options.client.endpoint = *net::parse_http_url(hub.url());
    options.client.retry_delay = std::chrono::milliseconds(1);
    options.client.report = [this](std::string_view sentence) {
      reports += std::string(sentence) + "\n";
    };
  }

  Pulled pulled() {
    const auto result = pull(options);
    EXPECT_TRUE(result) << result.error().message;
    return result.value_or(Pulled());
  }
  std::string refusal(ErrorCode code) {
    const auto result = pull(options);
    if (result) return "no error";
    EXPECT_EQ(result.error().code, code) << result.error().message;
    return result.error().message;
  }
  Result<std::string> find() const {
    return ModelCache(options.cache_folder, options.model).find();
  }
  std::string blob_path(const std::string& file) const {
    return options.cache_folder + "/models--org--model/blobs/" + blob_of(hub.files.at(file));
  }
  void expect_all(const Pulled& result) const {
    EXPECT_EQ(text_of(result.snapshot + "/config.json"), hub.files.at("config.json").content);
    EXPECT_TRUE(text_of(result.snapshot + "/model.safetensors") == weights_);
    EXPECT_EQ(find(), result.snapshot);
    EXPECT_FALSE(fs::exists(blob_path("model.safetensors") + ".incomplete"));
  }

  const test::TemporaryDirectory directory_;
  std::string weights_, reports;
  LoopbackHub hub;
  PullOptions options;
};

TEST_F(PullTest, FetchesWhatAnEngineNeedsIntoTheCachesLayout) {
  uint64_t done = 0, total = 0;
  options.progress = [&](uint64_t now, uint64_t all, std::string_view) {
    EXPECT_GE(now, done);
    done = now;
    total = all;
  };
  const Pulled result = pulled();
  expect_all(result);
  EXPECT_EQ(result.commit, hub.commit);
  EXPECT_EQ(result.num_files, 3u);
  EXPECT_EQ(done, total);
  EXPECT_EQ(result.fetched_bytes, total);
  EXPECT_EQ(total, weights_.size() + 24);
  EXPECT_FALSE(fs::exists(result.snapshot + "/README.md"));
  EXPECT_EQ(text_of(result.snapshot + "/dflash/config.json"), "{}");
  EXPECT_EQ(fs::read_symlink(result.snapshot + "/dflash/config.json"),
            "../../../blobs/" + blob_of(hub.files.at("dflash/config.json")));
  EXPECT_EQ(text_of(options.cache_folder + "/models--org--model/refs/main"), hub.commit);
  EXPECT_EQ(reports, "");
}

TEST_F(PullTest, WhatIsThereIsNotFetchedAgain) {
  pulled();
  const size_t before = hub.requests().size();
  const Pulled again = pulled();
  expect_all(again);
  EXPECT_EQ(again.fetched_bytes, 0u);
  EXPECT_EQ(hub.requests().size(), before + 1) << "more than the listing was asked for";
  // A new commit brings the files that changed alone; the old one stays.
  hub.commit = std::string(40, 'd');
  hub.files["config.json"].content = "{\"model_type\":\"other\"}";
  const Pulled newer = pulled();
  expect_all(newer);
  EXPECT_EQ(newer.fetched_bytes, hub.files["config.json"].content.size());
  EXPECT_NE(newer.snapshot, again.snapshot);
  EXPECT_TRUE(fs::exists(again.snapshot + "/config.json"));
  options.is_forced = true;
  EXPECT_EQ(pulled().fetched_bytes, newer.bytes);
}

TEST_F(PullTest, LostConnectionsGoOnWhereTheyEnded) {
  hub.cut_after = 100'000;
  hub.num_cuts = 2;
  expect_all(pulled());
  EXPECT_NE(reports.find("org/model: model.safetensors: 127.0.0.1:"), std::string::npos);
  EXPECT_NE(reports.find("; trying again in 1 s"), std::string::npos) << reports;
  std::vector<std::string> ranges;
  for (const HubRequest& request : hub.requests()) {
    if (request.is_at_cdn) ranges.push_back(request.range);
  }
  EXPECT_EQ(ranges, (std::vector<std::string>{"", "bytes=100000-", "bytes=200000-"}));
}

TEST_F(PullTest, ALaterCallGoesOnToo) {
  hub.cut_after = 100'000;
  hub.num_cuts = 1;
  options.client.max_tries = 1;
  const std::string message = refusal(ErrorCode::kIo);
  EXPECT_TRUE(message.starts_with("org/model: model.safetensors: 127.0.0.1:")) << message;
  EXPECT_TRUE(message.ends_with("; what has come is kept, and the same command goes on there"));
  EXPECT_EQ(fs::file_size(blob_path("model.safetensors") + ".incomplete"), 100'000u);
  EXPECT_FALSE(find()) << "a revision was noted before it was whole";
  const Pulled result = pulled();
  expect_all(result);
  EXPECT_EQ(result.fetched_bytes, weights_.size() - 100'000);
  EXPECT_EQ(hub.requests().back().range, "bytes=100000-");
}

TEST_F(PullTest, AServerWithoutRangesSendsAllOfItAgain) {
  hub.has_ranges = false;
  hub.cut_after = 100'000;
  hub.num_cuts = 1;
  expect_all(pulled());
}

TEST_F(PullTest, ThereIsAnEndToTryingWithoutProgress) {
  hub.cut_after = 100'000;
  hub.num_cuts = 1000;
  hub.has_ranges = false;
  options.client.max_tries = 3;
  refusal(ErrorCode::kIo);
  EXPECT_EQ(hub.count("/cdn/model.safetensors"), 3u) << "one with progress, two without";
}

TEST_F(PullTest, AWrongBeginningIsFetchedAgain) {
  fs::create_directories(options.cache_folder + "/models--org--model/blobs");
  std::ofstream(blob_path("model.safetensors") + ".incomplete") << std::string(5000, 'x');
  expect_all(pulled());
  std::ofstream(blob_path("config.json"), std::ios::trunc) << "cut";
  expect_all(pulled());
}

TEST_F(PullTest, OtherBytesThanTheHashSaysAreRefused) {
  hub.files["model.safetensors"].sent = std::string(weights_.size(), 'x');
  const std::string message = refusal(ErrorCode::kInvalidData);
  EXPECT_TRUE(message.starts_with("org/model: model.safetensors: what came has sha256 "));
  EXPECT_NE(message.find("expected " + blob_of(hub.files["model.safetensors"])), std::string::npos);
  EXPECT_FALSE(fs::exists(blob_path("model.safetensors")));
  EXPECT_FALSE(fs::exists(blob_path("model.safetensors") + ".incomplete"));
  EXPECT_FALSE(find());
  hub.files["model.safetensors"].sent = weights_ + "more";
  EXPECT_NE(refusal(ErrorCode::kInvalidData).find("more than its 300000 bytes"), std::string::npos);
  hub.files["model.safetensors"].sent = "";
  hub.files["config.json"].sent = std::string(hub.files["config.json"].content.size(), ' ');
  fs::remove(blob_path("config.json"));
  EXPECT_NE(refusal(ErrorCode::kInvalidData).find("config.json: what came has git sha1 "),
            std::string::npos);
}

TEST_F(PullTest, TheTokenGoesToTheHubAlone) {
  hub.token = options.client.token = "hf_secret";
  expect_all(pulled());
  size_t num_at_cdn = 0;
  for (const HubRequest& request : hub.requests()) {
    EXPECT_EQ(request.authorization, request.is_at_cdn ? "" : "Bearer hf_secret") << request.target;
    num_at_cdn += request.is_at_cdn ? 1 : 0;
  }
  EXPECT_EQ(num_at_cdn, 1u);
  EXPECT_EQ(hub.count("?Signature=a~b&Key=%2F"), 1u) << "the query must arrive as it was sent";
}

TEST_F(PullTest, RedirectionsOnTheHubKeepTheToken) {
  hub.token = options.client.token = "hf_secret";
  hub.relative = "renamed";
  expect_all(pulled());
  EXPECT_EQ(hub.count("/renamed/config.json"), 1u);
}

TEST_F(PullTest, AHubThatListsNoHashesIsAskedForHeaders) {
  hub.has_blobs = false;
  expect_all(pulled());
  EXPECT_EQ(text_of(blob_path("model.safetensors")), weights_);
}

TEST_F(PullTest, RevisionsAreBranchesTagsAndCommits) {
  hub.revisions["refs/pr/1"] = "";
  options.model = *parse_reference("org/model@refs/pr/1");
  expect_all(pulled());
  EXPECT_EQ(hub.count("/revision/refs%2Fpr%2F1?blobs=true"), 1u);
  options.model = *parse_reference("org/model@" + hub.commit);
  EXPECT_EQ(pulled().fetched_bytes, 0u);
  options.model = *parse_reference("org/model@v9");
  EXPECT_EQ(refusal(ErrorCode::kNotFound), "org/model@v9: no such revision");
}

TEST_F(PullTest, SaysWhoMayRead) {
  options.client.max_tries = 2;
  hub.token = "hf_good";
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument),
            "org/model: HTTP 401: no such repository at http://127.0.0.1, or not one for all; set "
            "HF_TOKEN to a token of an account that may read it");
  options.client.token = "hf_bad";
  EXPECT_NE(refusal(ErrorCode::kInvalidArgument).find("the token (HF_TOKEN, or the file"),
            std::string::npos);
  hub.gate = "GatedRepo";
  const std::string gated = refusal(ErrorCode::kInvalidArgument);
  EXPECT_TRUE(
      gated.starts_with("org/model: config.json: a gated repository: accept its terms on "
                        "its page at http://127.0.0.1 first; the token"))
      << gated;
  options.model = *parse_reference("org/other");
  EXPECT_EQ(refusal(ErrorCode::kNotFound), "org/other: no such repository at http://127.0.0.1");
  EXPECT_EQ(reports, "") << "no refusal is worth another try";
}

TEST_F(PullTest, ServersThatAreOutOfOrderAreAskedAgain) {
  hub.num_failures = 3;
  expect_all(pulled());
  EXPECT_NE(reports.find("org/model: HTTP 503 out of order; trying again in "), std::string::npos)
      << reports;
  hub.failure = 429;
  hub.num_failures = 100;
  options.client.max_tries = 3;
  EXPECT_TRUE(refusal(ErrorCode::kIo).starts_with("org/model: HTTP 429"));
  EXPECT_EQ(hub.num_failures, 97u);
}

TEST_F(PullTest, AHubThatNeverAnswersIsNotWaitedFor) {
  options.client.endpoint.port = 1;
  options.client.retry_delay = std::chrono::hours(1);
  EXPECT_TRUE(refusal(ErrorCode::kIo).starts_with("org/model: 127.0.0.1:1: "));
}

TEST_F(PullTest, NamesFromTheHubStayInside) {
  hub.listing = R"({"sha":")" + hub.commit + R"(","siblings":[{"rfilename":"../../x.json"}]})";
  EXPECT_NE(refusal(ErrorCode::kInvalidData).find("could lie outside"), std::string::npos);
  hub.listing = R"({"sha":"../../../x","siblings":[]})";
  EXPECT_NE(refusal(ErrorCode::kInvalidData).find("no commit"), std::string::npos);
  EXPECT_FALSE(fs::exists(options.cache_folder));
}

TEST_F(PullTest, OtherFormatsAreNamed) {
  hub.files = {{"model.gguf", {.content = "x"}}};
  EXPECT_TRUE(
      refusal(ErrorCode::kUnsupported).starts_with("org/model: no config.json, but *.gguf"));
  options.files.include = {"*.gguf"};
  EXPECT_EQ(pulled().num_files, 1u);
  options.files.include = {"*.none"};
  EXPECT_EQ(refusal(ErrorCode::kNotFound), "org/model: none of its 1 files is chosen");
}

TEST_F(PullTest, AModelMayBeRefusedBeforeItsWeightsCome) {
  options.check = [&](const std::string& snapshot) -> Status {
    EXPECT_EQ(text_of(snapshot + "/config.json"), hub.files["config.json"].content);
    return make_error(ErrorCode::kUnsupported, "not this one");
  };
  EXPECT_EQ(refusal(ErrorCode::kUnsupported), "not this one");
  EXPECT_EQ(hub.count("model.safetensors"), 0u);
  EXPECT_FALSE(find());
  options.check = [](const std::string&) -> Status { return {}; };
  expect_all(pulled());
}

// A disk that is full after so many bytes.
class FullFolder : public OutputFolder {
 public:
  FullFolder(const std::string& path, uint64_t capacity)
      : OutputFolder(path), capacity_(capacity) {}
  Status write_at(const OutputFile& file, uint64_t offset,
                  std::span<const std::byte> bytes) const override {
    if (offset + bytes.size() <= capacity_) return OutputFolder::write_at(file, offset, bytes);
    return make_error(ErrorCode::kIo, "{}: cannot write: No space left on device", file.path());
  }

 private:
  uint64_t capacity_;
};

TEST_F(PullTest, AFullDiskLosesNothing) {
  options.open_blobs = [](const std::string& path) {
    return std::make_unique<FullFolder>(path, 150'000);
  };
  const std::string message = refusal(ErrorCode::kIo);
  EXPECT_NE(message.find("No space left on device; what has come is kept, and the same command "
                         "goes on there"),
            std::string::npos)
      << message;
  EXPECT_EQ(reports, "") << "trying again makes no room";
  EXPECT_GT(fs::file_size(blob_path("model.safetensors") + ".incomplete"), 0u);
  options.open_blobs = nullptr;
  const Pulled result = pulled();
  expect_all(result);
  EXPECT_LT(result.fetched_bytes, weights_.size());
}

TEST_F(PullTest, AFolderThatCannotBeMadeIsSaidBeforeTheDownload) {
  std::ofstream(options.cache_folder) << "a file";
  const std::string message = refusal(ErrorCode::kIo);
  EXPECT_NE(message.find("cannot create the folder"), std::string::npos) << message;
  EXPECT_EQ(hub.count("/resolve/"), 0u);
}

TEST_F(PullTest, TwoCallsAtOnceShareTheWork) {
  const ModelCache cache(options.cache_folder, options.model);
  const auto blob = parse_blob_name(blob_of(hub.files["model.safetensors"]));
  const fs::path lock = cache.lock_file(*blob);
  fs::create_directories(lock.parent_path());
  const int holder = open(lock.c_str(), O_RDWR | O_CREAT, 0666);
  ASSERT_EQ(flock(holder, LOCK_EX), 0);
  // The other one finishes when this one waits for it.
  options.client.report = [&](std::string_view sentence) {
    reports += sentence;
    std::ofstream(blob_path("model.safetensors")) << weights_;
    close(holder);
  };
  expect_all(pulled());
  EXPECT_EQ(reports,
            "org/model: model.safetensors: another process downloads it; waiting for that");
  EXPECT_EQ(hub.count("/cdn/"), 0u);
}

}  // namespace
}  // namespace ultraspeed::hub
