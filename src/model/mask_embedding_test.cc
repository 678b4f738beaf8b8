// mask_embedding.pt: what torch.save writes is read, everything else is refused by name.
#include "model/mask_embedding.h"

#include <gtest/gtest.h>

#include "model/tensor_pickle.h"
#include "support/torch_archive_writer.h"

namespace ultraspeed::model {
namespace {

using test::mask_embedding_file;
using test::mask_pickle;
using test::zip_archive;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Result<MaskEmbedding> parse(const std::string& archive) {
  return MaskEmbedding::parse("m.pt", bytes_of(archive));
}

void expect_parse_error(const std::string& archive, ErrorCode code, const std::string& part) {
  const auto mask = parse(archive);
  ASSERT_FALSE(mask.has_value()) << part;
  EXPECT_EQ(mask.error().code, code) << mask.error().message;
  EXPECT_NE(mask.error().message.find(part), std::string::npos) << mask.error().message;
}

TEST(MaskEmbedding, ReadsWhatPythonWrites) {
  const auto mask = MaskEmbedding::load(US_SOURCE_DIR "/tests/data/mask_embedding.pt");
  ASSERT_TRUE(mask.has_value()) << mask.error().message;
  EXPECT_EQ(mask->mask_token_id, 3u);
  ASSERT_EQ(mask->values.size(), 128u);
  for (size_t i = 0; i < 128; ++i) EXPECT_EQ(mask->values[i], 0x3f80 + 7 * i);
}

TEST(MaskEmbedding, ReadsARowOfTwoDimensionsAndLargeIds) {
  const auto mask = parse(zip_archive(
      {{"a/data.pkl", mask_pickle(151669, {1, 3})}, {"a/data/0", std::string("\1\0\2\0\3\0", 6)}}));
  ASSERT_TRUE(mask.has_value()) << mask.error().message;
  EXPECT_EQ(mask->mask_token_id, 151669u);
  EXPECT_EQ(mask->values, (std::vector<uint16_t>{1, 2, 3}));
}

TEST(MaskEmbedding, NamesWhatIsWrongWithTheArchive) {
  const std::string good = mask_embedding_file(3, {1, 2});
  ASSERT_TRUE(parse(good).has_value());
  expect_parse_error("PK", ErrorCode::kInvalidData, "too short");
  expect_parse_error(good + "x", ErrorCode::kInvalidData, "end record");
  expect_parse_error(zip_archive({{"a/data/0", "xx"}}), ErrorCode::kInvalidData,
                     "no entry 'data.pkl'");
  expect_parse_error(zip_archive({{"a/data.pkl", mask_pickle(3, {2})}}), ErrorCode::kInvalidData,
                     "no entry 'data/0'");
  expect_parse_error(zip_archive({{"a/x", ""}, {"a/x", ""}}), ErrorCode::kInvalidData,
                     "two entries 'a/x'");
  expect_parse_error(zip_archive(test::ArchiveEntries(65, {"a/x", ""})), ErrorCode::kUnsupported,
                     "65 zip entries");
  std::string compressed = good;
  compressed[compressed.find("PK\1\2") + 10] = 8;
  expect_parse_error(compressed, ErrorCode::kUnsupported, "compressed");
  std::string moved = good;
  moved[moved.find("PK\1\2") + 42] = 1;
  expect_parse_error(moved, ErrorCode::kInvalidData,
                     "no local header for entry 'archive/data.pkl'");
  std::string long_entry = good;
  long_entry[long_entry.find("PK\1\2") + 26] = 1;
  expect_parse_error(long_entry, ErrorCode::kInvalidData, "ends inside entry");
  std::string lost = good;
  lost[lost.find("PK\1\2")] = 'x';
  expect_parse_error(lost, ErrorCode::kInvalidData, "central directory");
}

TEST(MaskEmbedding, NamesWhatIsWrongWithTheTensor) {
  const auto with = [](const std::string& pickle, const std::string& data) {
    return zip_archive({{"a/data.pkl", pickle}, {"a/data/0", data}});
  };
  expect_parse_error(with(mask_pickle(3, {3}), "12"), ErrorCode::kInvalidData,
                     "storage of 1 elements");
  expect_parse_error(with(mask_pickle(3, {0}), "12"), ErrorCode::kInvalidData, "does not lie");
  expect_parse_error(with(mask_pickle(3, {2, 1}), "1234"), ErrorCode::kInvalidData, "one row");
  expect_parse_error(with(mask_pickle(1u << 30, {1}), "12"), ErrorCode::kInvalidData, "1073741824");
  expect_parse_error(mask_embedding_file(3, {0, 0x7f80}), ErrorCode::kInvalidData, "element 1");
  expect_parse_error(with("\x80\2}.", ""), ErrorCode::kInvalidData, "no 'mask_token_id'");
}

// --- The pickle alone ---

void expect_refused(const std::string& pickle, ErrorCode code, const std::string& part) {
  const auto dict = read_tensor_pickle("p.pkl", bytes_of(pickle));
  ASSERT_FALSE(dict.has_value()) << part;
  EXPECT_EQ(dict.error().code, code) << dict.error().message;
  EXPECT_NE(dict.error().message.find(part), std::string::npos) << dict.error().message;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(TensorPickle, RefusesEveryOtherOpcodeByName) {
  const std::string allowed = "\x80.(})t\x85\x86\x87sucQRJKM\x88\x89Xqrhj";
  for (int code = 0; code < 256; ++code) {
    if (allowed.find(static_cast<char>(code)) != std::string::npos) continue;
    expect_refused(std::string("\x80\2}") + static_cast<char>(code) + ".", ErrorCode::kUnsupported,
                   fmt::format("byte 3: pickle opcode 0x{:02x} is refused", code));
  }
}

TEST(TensorPickle, RefusesEveryOtherFunctionByName) {
  const std::string good = mask_pickle(3, {2});
  expect_refused("\x80\2cos\nsystem\nX\2", ErrorCode::kUnsupported, "GLOBAL 'os system'");
  expect_refused(replaced(good, "BFloat16Storage", "FloatStorage"), ErrorCode::kUnsupported,
                 "GLOBAL 'torch FloatStorage'");
  // A tensor rebuilt by what makes hooks, and hooks made by what rebuilds tensors.
  const std::string rebuild = "torch._utils\n_rebuild_tensor_v2";
  const std::string hooks = "collections\nOrderedDict";
  expect_refused(replaced(good, rebuild, hooks), ErrorCode::kInvalidData, "rebuilds no tensor");
  expect_refused(replaced(good, hooks, rebuild), ErrorCode::kInvalidData, "rebuilds no tensor");
  expect_refused(replaced(good, "torch\nBFloat16Storage", hooks), ErrorCode::kInvalidData,
                 "no BF16 storage");
}

TEST(TensorPickle, RefusesWhatMakesNoSense) {
  const std::string good = mask_pickle(3, {2, 2});
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(read_tensor_pickle("p.pkl", bytes_of(good).first(size)).has_value()) << size;
  }
  const auto fails = [](const std::string& pickle, const std::string& part) {
    expect_refused(pickle, ErrorCode::kInvalidData, part);
  };
  fails(".", "one dict");
  fails("K\1.", "one dict");
  fails("q\1", "empty stack");
  fails("\x85", "empty stack");
  fails("R", "empty stack");
  fails("h\1", "memo that was not stored");
  fails("t", "TUPLE without a MARK");
  fails("u", "SETITEMS without a MARK");
  fails("}K\1s.", "no dict");
  fails("}K\1K\1s.", "key that is no text");
  fails("}}}s.", "key that is no text");
  fails("}X\1" + std::string(3, '\0') + "a)s.", "neither number nor tensor");
  fails("K\1Q", "no BF16 storage");
  fails("ccollections\nOrderedDict\nK\1R", "without arguments");
  fails("X\xff\xff" + std::string(2, '\0'), "more than 256 bytes");
  fails(replaced(good, "J\2" + std::string(3, '\0') + "J\1", "J\3" + std::string(3, '\0') + "J\1"),
        "gaps");
  expect_refused("\x80\4}.", ErrorCode::kUnsupported, "protocol 4");
  expect_refused(std::string(65537, '}'), ErrorCode::kUnsupported, "65537 bytes");
}

}  // namespace
}  // namespace ultraspeed::model
