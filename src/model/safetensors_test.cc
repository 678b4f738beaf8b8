// One safetensors file: what is read, and every way in which it can be malformed.
#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "support/safetensors_writer.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

constexpr std::string_view kGood =
    R"({"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "empty": {"dtype": "U8", "shape": [0, 7], "data_offsets": [32, 32]},
        "scalar": {"dtype": "F8_E4M3", "shape": [], "data_offsets": [32, 33]}}  )";

Result<SafetensorsHeader> parse_header(std::string_view header, uint64_t data_bytes = 33) {
  return SafetensorsHeader::parse("f.safetensors", header, 100, data_bytes);
}

TEST(SafetensorsHeader, ReadsTensorsAndMetadata) {
  const auto header = parse_header(kGood);
  ASSERT_TRUE(header.has_value()) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 4U);
  const TensorInfo& a = header->tensors.at("a");
  EXPECT_EQ(a.dtype, Dtype::kF32);
  EXPECT_EQ(a.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(a.offset, 100U);
  EXPECT_EQ(a.bytes, 24U);
  EXPECT_EQ(header->tensors.at("b").offset, 124U);
  EXPECT_EQ(header->tensors.at("empty").bytes, 0U);
  EXPECT_EQ(header->tensors.at("scalar").bytes, 1U);
  EXPECT_EQ(header->metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, KnowsEveryDtype) {
  const std::vector<std::pair<std::string, uint32_t>> dtypes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
      {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},     {"I32", 4},
      {"F32", 4},  {"U64", 8}, {"I64", 8}, {"F64", 8}};
  for (const auto& [name, bytes] : dtypes) {
    const auto header = parse_header(
        fmt::format(R"({{"t": {{"dtype": "{}", "shape": [3], "data_offsets": [0, {}]}}}})", name,
                    3 * bytes),
        3 * bytes);
    ASSERT_TRUE(header.has_value()) << header.error().message;
    EXPECT_EQ(dtype_name(header->tensors.at("t").dtype), name);
    EXPECT_EQ(dtype_bytes(header->tensors.at("t").dtype), bytes);
  }
}

TEST(SafetensorsHeader, RejectsWhatIsMalformed) {
  struct Case {
    std::string json;
    std::string part;  // of the message
  };
  const std::string huge_name(1025, 'n');
  const auto tensor = [](const std::string& fields) { return "{\"t\": {" + fields + "}}"; };
  const std::vector<Case> cases = {
      {"", "does not begin with"},
      {"[]", "does not begin with"},
      {"{", "not valid JSON"},
      {"{\"\xff\": 1}", "not valid JSON"},
      {R"({"__metadata__": 3})", "__metadata__ is 3; expected an object"},
      {R"({"__metadata__": {"format": 3}})", "key 'format' is 3; expected a string"},
      {R"({"t": 5})", "tensor 't': its entry is 5"},
      {R"({"t": {}})", "tensor 't': its entry is {}"},
      {R"({"": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]}})", "its name has 0 bytes"},
      {"{\"" + huge_name + R"(": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]}})",
       "its name has 1025 bytes"},
      {R"({"a\u001b[2J": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]}})",
       "tensor 'a?[2J': its name holds control characters"},
      {R"({"t": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]},
           "t": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]}})",
       "key 't' occurs twice"},
      {tensor(R"("dtype": "U8", "shape": [33], "data_offsets": [0, 33], "x": 1)"), "its entry is"},
      {tensor(R"("dtype": "U8", "shape": [33], "offsets": [0, 33])"), "data_offsets are not"},
      {tensor(R"("dtype": "F12", "shape": [33], "data_offsets": [0, 33])"),
       "dtype 'F12' is unknown"},
      {tensor(R"("dtype": 8, "shape": [33], "data_offsets": [0, 33])"), "dtype is missing"},
      {tensor(R"("dtype": "U8", "shape": 33, "data_offsets": [0, 33])"), "shape is not a list"},
      {tensor(R"("dtype": "U8", "shape": [-33], "data_offsets": [0, 33])"), "shape has -33"},
      {tensor(R"("dtype": "U8", "shape": [3.5], "data_offsets": [0, 33])"), "shape has 3.5"},
      {tensor(R"("dtype": "U8", "shape": [1,1,1,1,1,1,1,1,33], "data_offsets": [0, 33])"),
       "shape is not a list of at most 8"},
      {tensor(R"("dtype": "F64", "shape": [4294967296, 4294967296], "data_offsets": [0, 33])"),
       "overflows 64 bits"},
      {tensor(R"("dtype": "F64", "shape": [2305843009213693952], "data_offsets": [0, 0])"),
       "overflows 64 bits"},
      {tensor(R"("dtype": "U8", "shape": [33], "data_offsets": [0])"), "data_offsets are not"},
      {tensor(R"("dtype": "U8", "shape": [33], "data_offsets": [0, -1])"), "data_offsets are not"},
      {tensor(R"("dtype": "U8", "shape": [33], "data_offsets": [33, 0])"), "are not a range"},
      {tensor(R"("dtype": "U8", "shape": [34], "data_offsets": [0, 34])"), "truncated"},
      {tensor(R"("dtype": "U8", "shape": [33], "data_offsets": [0, 32])"),
       "span 32 bytes; expected 33 for U8 [33]"},
      {tensor(R"("dtype": "F32", "shape": [33], "data_offsets": [0, 33])"),
       "span 33 bytes; expected 132 for F32 [33]"},
      {tensor(R"("dtype": "U8", "shape": [30], "data_offsets": [0, 30])"), "end at byte 30"},
      {tensor(R"("dtype": "U8", "shape": [32], "data_offsets": [1, 33])"),
       "begin at 1; expected 0"},
      {R"({"a": {"dtype": "U8", "shape": [20], "data_offsets": [0, 20]},
           "b": {"dtype": "U8", "shape": [14], "data_offsets": [19, 33]}})",
       "tensor 'b': data_offsets [19, 33) overlap those of tensor 'a', which end at 20"},
      {R"({"a": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]},
           "b": {"dtype": "U8", "shape": [33], "data_offsets": [0, 33]}})",
       "overlap"},
      {R"({"a": {"dtype": "U8", "shape": [20], "data_offsets": [0, 20]},
           "b": {"dtype": "U8", "shape": [12], "data_offsets": [21, 33]}})",
       "tensor 'b': data_offsets begin at 21; expected 20"},
      {"{}", "end at byte 0"},
  };
  for (const Case& test_case : cases) {
    const auto header = parse_header(test_case.json);
    ASSERT_FALSE(header.has_value()) << test_case.json;
    EXPECT_EQ(header.error().code, ErrorCode::kInvalidData);
    EXPECT_EQ(header.error().message.find("f.safetensors: "), 0U) << header.error().message;
    EXPECT_NE(header.error().message.find(test_case.part), std::string::npos)
        << header.error().message << "\nexpected: " << test_case.part;
  }
}

class SafetensorsFileTest : public testing::Test {
 protected:
  std::string path() const { return directory_.path() + "/model.safetensors"; }

  void expect_error(ErrorCode code, const std::string& part) const {
    const auto file = SafetensorsFile::open(path());
    ASSERT_FALSE(file.has_value()) << part;
    EXPECT_EQ(file.error().code, code);
    EXPECT_EQ(file.error().message.find(path()), 0U) << file.error().message;
    EXPECT_NE(file.error().message.find(part), std::string::npos) << file.error().message;
  }

  test::TemporaryDirectory directory_;
};

TEST_F(SafetensorsFileTest, ReadsData) {
  const std::string data = "0123456789abcdefghijklmnopqrstuvw";
  ASSERT_TRUE(test::write_raw_safetensors(path(), kGood, data).has_value());
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->path(), path());
  const TensorInfo& info = file->header().tensors.at("b");
  std::string bytes(info.bytes, ' ');
  ASSERT_TRUE(file->read(info.offset, std::as_writable_bytes(std::span(bytes))).has_value());
  EXPECT_EQ(bytes, "opqrstuv");
}

TEST_F(SafetensorsFileTest, RejectsMissingEmptyAndShortFiles) {
  expect_error(ErrorCode::kNotFound, "cannot open");
  ASSERT_TRUE(test::write_file(path(), "").has_value());
  expect_error(ErrorCode::kInvalidData, "0 bytes; expected at least the 8");
  ASSERT_TRUE(test::write_file(path(), "1234567").has_value());
  expect_error(ErrorCode::kInvalidData, "7 bytes");
}

TEST_F(SafetensorsFileTest, RejectsAbsurdHeaderLengths) {
  ASSERT_TRUE(test::write_file(path(), std::string(8, '\xff') + "{}").has_value());
  expect_error(ErrorCode::kInvalidData, "claims 18446744073709551615 bytes; expected at most 2");
  ASSERT_TRUE(test::write_file(path(), std::string("\x03\0\0\0\0\0\0\0{}", 10)).has_value());
  expect_error(ErrorCode::kInvalidData, "claims 3 bytes; expected at most 2");
  // Above the format's limit, in a sparse file that is long enough.
  ASSERT_TRUE(test::write_file(path(), std::string("\0\0\0\x10\0\0\0\0{}", 10)).has_value());
  std::filesystem::resize_file(path(), 1ULL << 30);
  expect_error(ErrorCode::kInvalidData, "claims 268435456 bytes; expected at most 100000000");
}

TEST_F(SafetensorsFileTest, RejectsTruncatedData) {
  ASSERT_TRUE(test::write_raw_safetensors(path(), kGood, std::string(32, 'x')).has_value());
  expect_error(ErrorCode::kInvalidData, "tensor 'scalar': data_offsets [32, 33)");
}

TEST_F(SafetensorsFileTest, ReportsAFileThatShrinksWhileMapped) {
  const std::string header =
      R"({"t": {"dtype": "U8", "shape": [1048576], "data_offsets": [0, 1048576]}})";
  ASSERT_TRUE(test::write_raw_safetensors(path(), header, std::string(1U << 20, 'x')).has_value());
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file.has_value());
  std::filesystem::resize_file(path(), 4096);
  std::vector<std::byte> bytes(1U << 20);
  const auto status = file->read(file->header().tensors.at("t").offset, bytes);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_NE(status.error().message.find("truncated while in use"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::model
