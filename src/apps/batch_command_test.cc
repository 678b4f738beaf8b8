// The command: which files it takes, and that it spoils none.
#include <gtest/gtest.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "apps/batch_command.h"
#include "apps/batch_file.h"
#include "apps/files.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

const char* const kRequest =
    R"({"custom_id":"a","method":"POST","url":"/v1/messages","body":{"model":"tiny"}})";
const char* const kGoodAnswer =
    R"({"id":"batch_req_1","custom_id":"a","response":{"status_code":200,"body":{}},"error":null})";

class BatchCommandTest : public testing::Test {
 protected:
  struct Outcome {
    int exit_code;
    std::string errors;
  };

  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  void write(const std::string& name, const std::string& contents) const {
    ASSERT_TRUE(write_file(path(name), contents));
  }
  // Nobody listens at the URL.
  static Outcome run(const std::string& input, const std::string& output) {
    CLI::App app;
    int exit_code = -1;
    add_batch_command(app, &exit_code);
    testing::internal::CaptureStderr();
    app.parse("batch " + input + " " + output + " --url http://127.0.0.1:1");
    return {exit_code, testing::internal::GetCapturedStderr()};
  }
  static bool has(const Outcome& outcome, std::string_view what) {
    return outcome.errors.find(what) != std::string::npos;
  }

  test::TemporaryDirectory directory_;
};

TEST_F(BatchCommandTest, AMissingInputLeavesNoOutput) {
  const Outcome outcome = run(path("in"), path("out"));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(has(outcome, path("in"))) << outcome.errors;
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

TEST_F(BatchCommandTest, InputAndOutputAreNotTheSameFile) {
  write("in", kRequest);  // without an end: what a kill has left would be cut off
  std::filesystem::create_hard_link(path("in"), path("hard"));
  std::filesystem::create_symlink(path("in"), path("soft"));
  for (const char* const name : {"in", "hard", "soft"}) {
    const Outcome outcome = run(path("in"), path(name));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(has(outcome, "the same file")) << outcome.errors;
  }
  EXPECT_EQ(*read_file(path("in")), kRequest);
}

TEST_F(BatchCommandTest, OutputIsAFile) {
  write("in", kRequest);
  EXPECT_TRUE(has(run(path("in"), "-"), "cannot be standard output"));
  EXPECT_FALSE(std::filesystem::exists("-"));
  EXPECT_TRUE(has(run(path("in"), "/dev/null"), "OUT must be a file"));
  EXPECT_TRUE(has(run(path("in"), directory_.path()), "OUT must be a file"));
}

TEST_F(BatchCommandTest, TwoBatchesDoNotShareAnOutput) {
  write("in", kRequest);
  {
    const auto other = BatchOutput::open(path("out"));
    ASSERT_TRUE(other);
    const Outcome outcome = run(path("in"), path("out"));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(has(outcome, "another batch is writing to it")) << outcome.errors;
  }
  EXPECT_TRUE(BatchOutput::open(path("out")));
}

TEST_F(BatchCommandTest, WhatIsAnsweredIsNotSent) {
  write("in", kRequest);
  write("out", std::string(kGoodAnswer) + "\n");
  const Outcome outcome = run(path("in"), path("out"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(has(outcome, "1 there before"));
}

// A refusal that was there before fails the command too.
TEST_F(BatchCommandTest, EarlierRefusalsCount) {
  write("in", kRequest);
  for (const char* const outcome_of_a :
       {R"("response":{"status_code":400,"body":{}},"error":null)", R"("response":{},"error":null)",
        R"("response":null,"error":{"code":"x"})"}) {
    write("out", R"({"id":"batch_req_1","custom_id":"a",)" + std::string(outcome_of_a) + "}\n");
    const Outcome outcome = run(path("in"), path("out"));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_TRUE(has(outcome, "1 requests were refused")) << outcome.errors;
  }
}

TEST(BatchOutputTest, OnlyLinesWithAResponseOrAnErrorAreAnswers) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/out";
  ASSERT_TRUE(write_file(path, std::string(kGoodAnswer) + "\n" +
                                   R"({"custom_id":"b","response":null,"error":{"code":"x"}})" +
                                   "\n" + R"({"custom_id":"c","method":"POST","body":{}})" + "\n" +
                                   R"({"custom_id":"d","response":null,"error":null})" + "\n"));
  const auto output = BatchOutput::open(path);
  ASSERT_TRUE(output);
  EXPECT_TRUE(output->has("a") && output->has("b"));
  EXPECT_FALSE(output->has("c") || output->has("d"));
}

TEST(BatchOutputTest, OnlyTheBeginOfAnAnswerIsCutOff) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/out";
  const std::string line = std::string(kGoodAnswer) + "\n";
  for (const std::string rest : {"{", R"({"id":"batch_req_)", R"({"id":"batch_req_7","custom)"}) {
    ASSERT_TRUE(write_file(path, line + rest));
    EXPECT_TRUE(BatchOutput::open(path)) << rest;
    EXPECT_EQ(*read_file(path), line);
  }
  for (const std::string rest : {kRequest, "my notes", R"({"id":"other)"}) {
    ASSERT_TRUE(write_file(path, line + rest));
    const auto output = BatchOutput::open(path);
    ASSERT_FALSE(output) << rest;
    EXPECT_NE(output.error().message.find(path), std::string::npos);
    EXPECT_EQ(*read_file(path), line + rest);
  }
}

}  // namespace
}  // namespace ultraspeed::apps
