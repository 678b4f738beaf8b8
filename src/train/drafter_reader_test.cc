// What was written is read back, and what is no such file is refused with its name.
#include "train/drafter_reader.h"

#include <gtest/gtest.h>

#include "support/temporary_directory.h"
#include "train/output_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

std::vector<ExportedTensor> some_tensors() {
  ExportedTensor matrix = {"fc.weight", {130, 140}, {}};
  for (int i = 0; i < 130 * 140; ++i) {
    matrix.values.push_back(static_cast<float>(i % 17 - 8) * (i / 140 < 128 ? 0.25F : 64.0F));
  }
  return {matrix, {"norm.weight", {3}, {1.0F, -0.5F, 2.0F}}};
}

std::string file_of(const std::string& header, const std::string& data = "") {
  std::string bytes;
  append(&bytes, uint64_t{header.size()});
  return bytes + header + data;
}

std::string weights_error(const std::string& bytes) {
  const auto tensors = parse_drafter_weights("x.safetensors", bytes_of(bytes));
  return tensors ? std::string() : tensors.error().message;
}

TEST(DrafterReader, ReadsWhatWasWritten) {
  for (const LinearFormat format : {LinearFormat::kBf16, LinearFormat::kFp8}) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.path() + "/model.safetensors";
    const std::vector<ExportedTensor> written = some_tensors();
    ASSERT_TRUE(write_file(path, {drafter_weights(path, written, format).value()}).has_value());
    const auto read = read_drafter_weights(path);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    ASSERT_EQ(read->size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ((*read)[i].name, written[i].name);
      EXPECT_EQ((*read)[i].shape, written[i].shape);
      ASSERT_EQ((*read)[i].values.size(), written[i].values.size());
      for (size_t k = 0; k < written[i].values.size(); ++k) {
        const float expected = written[i].values[k];
        ASSERT_NEAR((*read)[i].values[k], expected, std::abs(expected) / 16) << k;
      }
    }
  }
}

TEST(DrafterReader, ReadsOtherOrdersTypesAndMetadata) {
  std::string data;
  append(&data, 1.5F);
  append(&data, -2.0F);
  const auto read = parse_drafter_weights(
      "x", bytes_of(file_of(R"({ "__metadata__":{"format":"pt"} , "a":{"data_offsets":[0,8],)"
                            R"( "shape": [ 2, 1 ],"dtype":"F32"}, "one": {"dtype": "F32", )"
                            R"("shape": [], "data_offsets": [4, 8]}}  )",
                            data)));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ((*read)[0].values, (std::vector<float>{1.5F, -2.0F}));
  EXPECT_EQ((*read)[0].shape, (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ((*read)[1].values, std::vector<float>{-2.0F});
  EXPECT_TRUE(parse_drafter_weights("x", bytes_of(file_of("{}")))->empty());
}

TEST(DrafterReader, RefusesWhatIsNoSuchFile) {
  const std::string no_header = "x.safetensors: has no header of a drafter's safetensors";
  for (const char* header :
       {"", "{", "{}x", R"({"a})", R"({"a": 1})", R"({"a": {"dtype": 3}})", R"({"a\"": {}})",
        R"({"a": {"shape": [1 2]}})", R"({"a": {"shape": [-1]}})", R"({"a": {"size": [1]}})",
        R"({"a": {"shape": [99999999999999999999]}})"}) {
    EXPECT_EQ(weights_error(file_of(header)), no_header) << header;
  }
  EXPECT_EQ(weights_error("abc"), no_header);
  EXPECT_EQ(weights_error(file_of("{}").substr(0, 9)), no_header);
  const auto entry = [](const std::string& dtype, const std::string& rest) {
    return file_of(R"({"a": {"dtype": ")" + dtype + R"(", )" + rest + "}}", "12345678");
  };
  EXPECT_EQ(weights_error(entry("I8", R"("shape": [8], "data_offsets": [0, 8])")),
            "x.safetensors: 'a' is of another type than BF16, F32 and FP8");
  for (const char* rest :
       {R"("shape": [8])", R"("shape": [4], "data_offsets": [0, 9])",
        R"("shape": [4], "data_offsets": [4, 0])", R"("shape": [3], "data_offsets": [0, 8])",
        R"("shape": [0], "data_offsets": [0, 0])",
        R"("shape": [65536, 65536, 65536, 65536], "data_offsets": [0, 0])"}) {
    EXPECT_EQ(weights_error(entry("BF16", rest)),
              "x.safetensors: 'a' has other bytes than its shape")
        << rest;
  }
  EXPECT_NE(read_drafter_weights("no/such/file").error().message.find("no/such/file"),
            std::string::npos);
}

TEST(DrafterReader, RefusesScalesOfAnotherShape) {
  const std::string bytes =
      file_of(R"({"a": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}, )"
              R"("a_scale_inv": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
              "12345678");
  EXPECT_EQ(weights_error(bytes), "x.safetensors: 'a' has scales of another shape");
}

}  // namespace
}  // namespace ultraspeed::train
