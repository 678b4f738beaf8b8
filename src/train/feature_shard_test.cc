// Shards, folders of them and frozen tables: what is written is read, and no damaged byte goes
// unnoticed.
#include "train/feature_shard.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/temporary_directory.h"
#include "train/capture_fixture.h"
#include "train/frozen_tables.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

FeatureShape small_shape() {
  return {3, 50, 8, {1, 4}, "a target"};
}

FeatureSequence sequence_of(uint32_t length, uint32_t first) {
  FeatureSequence sequence;
  for (uint32_t i = 0; i < length; ++i) {
    sequence.token_ids.push_back(static_cast<int32_t>((first + i) % 50));
    sequence.loss_mask.push_back(i >= length / 2 ? 1 : 0);
    for (uint32_t k = 0; k < 6; ++k) sequence.features.push_back(static_cast<uint16_t>(first + k));
    for (uint32_t k = 0; k < 3; ++k) sequence.last_hidden.push_back(static_cast<uint16_t>(i * 9));
  }
  return sequence;
}

std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class FeatureShardTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

  void write(const std::string& name, const std::vector<FeatureSequence>& sequences,
             const FeatureShape& shape = small_shape()) const {
    auto writer = FeatureShardWriter::create(path(name), shape);
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    for (const FeatureSequence& sequence : sequences) {
      const Status status = writer->add(sequence);
      ASSERT_TRUE(status.has_value()) << status.error().message;
    }
    EXPECT_EQ(writer->num_sequences(), sequences.size());
    const auto finished = writer->finish();
    ASSERT_TRUE(finished.has_value()) << finished.error().message;
    EXPECT_EQ(FeatureShard::open(path(name))->checksum(), *finished);
    EXPECT_EQ(writer->bytes(), 248 + std::filesystem::file_size(path(name)));  // the header twice
  }

  // Of opening the folder, "" without one.
  std::string folder_error() const {
    const auto folder = FeatureFolder::open(directory_.path());
    return folder ? std::string() : folder.error().message;
  }

  // The first error of opening a file's bytes and reading all of it; "" without one.
  static std::string error_of(const std::string& bytes) {
    const auto shard = FeatureShard::parse("x", bytes_of(bytes));
    if (!shard) return shard.error().message;
    for (size_t i = 0; i < shard->num_sequences(); ++i) {
      const auto sequence = shard->read(i);
      if (!sequence) return sequence.error().message;
    }
    return "";
  }

  test::TemporaryDirectory directory_;
};

void expect_equal(const FeatureSequence& a, const FeatureSequence& b) {
  EXPECT_EQ(a.token_ids, b.token_ids);
  EXPECT_EQ(a.loss_mask, b.loss_mask);
  EXPECT_EQ(a.features, b.features);
  EXPECT_EQ(a.last_hidden, b.last_hidden);
}

TEST_F(FeatureShardTest, ReadsWhatWasWritten) {
  write("a.features", {sequence_of(5, 1), sequence_of(1, 2), sequence_of(40, 3)});
  const auto shard = FeatureShard::open(path("a.features"));
  ASSERT_TRUE(shard.has_value()) << shard.error().message;
  EXPECT_EQ(shard->shape(), small_shape());
  ASSERT_EQ(shard->num_sequences(), 3u);
  EXPECT_EQ(shard->length(2), 40u);
  expect_equal(shard->read(2).value(), sequence_of(40, 3));
  expect_equal(shard->read(0).value(), sequence_of(5, 1));
  expect_equal(shard->read(1).value(), sequence_of(1, 2));
}

TEST_F(FeatureShardTest, NoticesEveryDamagedByteAndEveryCut) {
  write("a.features", {sequence_of(3, 1), sequence_of(2, 2)});
  const std::string bytes = file_bytes(path("a.features"));
  ASSERT_EQ(error_of(bytes), "");
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_NE(error_of(damaged), "") << "byte " << i;
    EXPECT_NE(error_of(bytes.substr(0, i)), "") << "cut at " << i;
  }
  EXPECT_NE(error_of(bytes + "x").find("cut off or appended to"), std::string::npos);
}

TEST_F(FeatureShardTest, SaysWhatIsWrong) {
  EXPECT_NE(error_of("short").find("x: 5 bytes, expected a shard"), std::string::npos);
  EXPECT_NE(error_of(std::string(300, '\0')).find("was not finished"), std::string::npos);
  FeatureSequence bad = sequence_of(4, 1);
  bad.token_ids[2] = 50;
  write("a.features", {bad});
  EXPECT_EQ(error_of(file_bytes(path("a.features"))), "x: sequence 0 has token 50 of 50");
  bad.token_ids[2] = -1;
  write("a.features", {bad});
  EXPECT_EQ(error_of(file_bytes(path("a.features"))), "x: sequence 0 has token -1 of 50");
  bad = sequence_of(4, 1);
  bad.loss_mask[0] = 2;
  write("a.features", {bad});
  EXPECT_EQ(error_of(file_bytes(path("a.features"))),
            "x: sequence 0 has a loss mask beside 0 and 1");
  bad = sequence_of(4, 1);
  bad.features[5] = 0x7f80;
  write("a.features", {sequence_of(2, 1), bad});
  EXPECT_EQ(error_of(file_bytes(path("a.features"))),
            "x: sequence 1 has numbers that are not finite");
  bad = sequence_of(4, 1);
  bad.last_hidden[0] = 0xffc0;
  write("a.features", {bad});
  EXPECT_NE(error_of(file_bytes(path("a.features"))).find("not finite"), std::string::npos);
}

TEST_F(FeatureShardTest, WritesNothingOfAnotherShape) {
  const auto error = [&](const FeatureShape& shape) {
    const auto writer = FeatureShardWriter::create(path("b.features"), shape);
    return writer ? std::string() : writer.error().message;
  };
  FeatureShape shape = small_shape();
  shape.hidden_size = 0;
  EXPECT_NE(error(shape).find("hidden_size 0"), std::string::npos);
  shape = small_shape();
  shape.vocab_size = 0;
  EXPECT_NE(error(shape).find("vocab_size 0"), std::string::npos);
  shape = small_shape();
  shape.num_target_layers = 4;  // tap 4 is the fifth
  EXPECT_NE(error(shape).find("ascending layers of 4"), std::string::npos);
  shape.num_target_layers = 0;
  EXPECT_NE(error(shape).find("0 layers"), std::string::npos);
  shape = small_shape();
  shape.target_layer_ids = {4, 4};
  EXPECT_NE(error(shape).find("ascending"), std::string::npos);
  shape = small_shape();
  shape.model = std::string(128, 'x');
  EXPECT_NE(error(shape).find("name of 128 bytes"), std::string::npos);

  auto writer = FeatureShardWriter::create(path("c.features"), small_shape());
  ASSERT_TRUE(writer.has_value());
  FeatureSequence sequence = sequence_of(4, 1);
  sequence.features.pop_back();
  EXPECT_NE(writer->add(sequence).error().message.find("sequence 0 of 4 tokens"),
            std::string::npos);
  EXPECT_FALSE(writer->add({}).has_value());
  EXPECT_FALSE(FeatureShardWriter::create(path("no/such/folder"), small_shape()).has_value());
}

TEST_F(FeatureShardTest, AFolderIsOneListInTheOrderOfItsNames) {
  write("b.features", {sequence_of(2, 7)});
  write("a.features", {sequence_of(3, 1), sequence_of(4, 2)});
  write_bytes(path("notes.txt"), "no shard");
  write_capture(directory_.path());
  const auto folder = FeatureFolder::open(directory_.path());
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  ASSERT_EQ(folder->num_sequences(), 3u);
  EXPECT_EQ(folder->num_tokens(), 9u);
  EXPECT_EQ(folder->length(1), 4u);
  expect_equal(folder->read(0).value(), sequence_of(3, 1));
  expect_equal(folder->read(2).value(), sequence_of(2, 7));
}

TEST_F(FeatureShardTest, AFolderGivesTheSelectedTaps) {
  write("a.features", {sequence_of(3, 1)});
  write_capture(directory_.path());
  auto folder = FeatureFolder::open(directory_.path());
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  const FeatureSequence whole = folder->read(0).value();
  const FeatureShape shape = small_shape();
  const size_t size = shape.hidden_size, row = size * shape.num_taps();
  ASSERT_GT(shape.num_taps(), 1u);
  ASSERT_TRUE(folder->select_taps({shape.target_layer_ids.back()}).has_value());
  EXPECT_EQ(folder->shape().num_taps(), 1u);
  const FeatureSequence part = folder->read(0).value();
  ASSERT_EQ(part.features.size(), 3 * size);
  for (size_t i = 0; i < part.features.size(); ++i) {
    EXPECT_EQ(part.features[i], whole.features[i / size * row + row - size + i % size]) << i;
  }
  EXPECT_EQ(part.token_ids, whole.token_ids);
  EXPECT_EQ(part.last_hidden, whole.last_hidden);

  EXPECT_EQ(
      folder->select_taps({99}).error().message.find(directory_.path() + ": layer 99 is no tap"),
      0u);
  EXPECT_FALSE(folder->select_taps({}).has_value());
  EXPECT_EQ(folder->shape().num_taps(), 1u);  // as before the errors
  ASSERT_TRUE(folder->select_taps(shape.target_layer_ids).has_value());
  expect_equal(folder->read(0).value(), sequence_of(3, 1));
}

TEST_F(FeatureShardTest, AFolderIsFilledShardByShard) {
  const uint64_t bytes = sequence_bytes(small_shape(), 10);
  EXPECT_EQ(bytes, 10 * (4 + 2 * 3 * 3 + 1u));
  // A header and two sequences fit, a third one does not.
  auto writer = FeatureFolderWriter::create(path("new"), small_shape(), 248 + 2 * bytes);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(writer->add(sequence_of(10, i)).has_value());
  ASSERT_TRUE(writer->add(sequence_of(30, 5)).has_value());  // too large for any: alone
  ASSERT_TRUE(writer->finish().has_value());
  ASSERT_EQ(writer->shards().size(), 4u);
  EXPECT_EQ(writer->shards()[1].first, "00001.features");
  EXPECT_EQ(writer->shards()[1].second,
            FeatureShard::open(path("new/00001.features")).value().checksum());
  write_capture(path("new"));
  const auto folder = FeatureFolder::open(path("new"));
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  ASSERT_EQ(folder->num_sequences(), 6u);
  for (uint32_t i = 0; i < 5; ++i) expect_equal(folder->read(i).value(), sequence_of(10, i));
  expect_equal(folder->read(5).value(), sequence_of(30, 5));
  EXPECT_EQ(FeatureShard::open(path("new/00001.features")).value().num_sequences(), 2u);
  EXPECT_EQ(FeatureShard::open(path("new/00003.features")).value().num_sequences(), 1u);
  const auto again = FeatureFolderWriter::create(path("new"), small_shape(), 1000);
  ASSERT_FALSE(again.has_value());
  EXPECT_NE(again.error().message.find("00000.features' already"), std::string::npos);
  FeatureShape wrong = small_shape();
  wrong.hidden_size = 0;
  EXPECT_FALSE(FeatureFolderWriter::create(path("other"), wrong, 1000).has_value());
}

TEST_F(FeatureShardTest, AnInterruptedCaptureIsRefused) {
  {
    auto writer = FeatureFolderWriter::create(path("new"), small_shape(), 1);
    ASSERT_TRUE(writer->add(sequence_of(10, 1)).has_value());
    ASSERT_TRUE(writer->add(sequence_of(10, 2)).has_value());  // finishes the first
  }
  EXPECT_TRUE(std::filesystem::exists(path("new/00000.features")));
  const auto folder = FeatureFolder::open(path("new"));
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().code, ErrorCode::kNotFound);
  EXPECT_NE(folder.error().message.find("new: no capture.json"), std::string::npos)
      << folder.error().message;
}

TEST_F(FeatureShardTest, AFolderHoldsWhatItsCaptureLists) {
  write("a.features", {sequence_of(3, 1)});
  write("b.features", {sequence_of(3, 2)});
  write_capture(directory_.path());
  EXPECT_EQ(folder_error(), "");
  const uint64_t sum = FeatureFolder::open(directory_.path())->checksum();
  write("c.features", {sequence_of(3, 3)});
  EXPECT_NE(folder_error().find("c.features is none of the 2 shards"), std::string::npos);
  write_capture(directory_.path());
  EXPECT_NE(FeatureFolder::open(directory_.path())->checksum(), sum);
  std::filesystem::remove(path("b.features"));
  EXPECT_NE(folder_error().find("b.features is missing, one of the 3 shards"), std::string::npos);
  write("b.features", {sequence_of(3, 4)});
  EXPECT_NE(folder_error().find("b.features: is not the shard that capture.json lists"),
            std::string::npos);
  const std::string list = file_bytes(path("capture.json"));
  for (size_t size = 0; size < list.size(); ++size) {
    write_bytes(path("capture.json"), list.substr(0, size));
    EXPECT_NE(folder_error().find("capture.json: lists no shards"), std::string::npos) << size;
  }
  write_bytes(path("capture.json"), R"({"shards": 3})");  // an older one
  EXPECT_NE(folder_error().find("capture.json: lists no shards"), std::string::npos);
}

TEST_F(FeatureShardTest, AFolderIsOfOneTarget) {
  write_capture(directory_.path());
  EXPECT_NE(folder_error().find("no sequences in files"), std::string::npos);
  EXPECT_EQ(FeatureFolder::open(path("none")).error().code, ErrorCode::kNotFound);
  write("a.features", {sequence_of(3, 1)});
  FeatureShape other = small_shape();
  other.model = "another target";
  write("b.features", {sequence_of(3, 1)}, other);
  write_capture(directory_.path());
  EXPECT_NE(folder_error().find("b.features: of another"), std::string::npos);
}

TEST_F(FeatureShardTest, TablesAreReadAsWrittenAndDamageIsNoticed) {
  FrozenTables tables = {3, 2, "a target", {1, 2, 3, 4, 5, 6}, {-1, -2, -3, -4, -5, -6}};
  const std::string file = path("x.tables");
  ASSERT_TRUE(tables.write(file).has_value());
  const auto read = FrozenTables::read(file);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->vocab_size, 3u);
  EXPECT_EQ(read->hidden_size, 2u);
  EXPECT_EQ(read->model, "a target");
  EXPECT_EQ(read->embedding, tables.embedding);
  EXPECT_EQ(read->head, tables.head);
  const std::string bytes = file_bytes(file);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    write_bytes(file, damaged);
    EXPECT_FALSE(FrozenTables::read(file).has_value()) << i;
    write_bytes(file, bytes.substr(0, i));
    EXPECT_FALSE(FrozenTables::read(file).has_value()) << i;
  }
  tables.head[2] = INFINITY;
  ASSERT_TRUE(tables.write(file).has_value());
  EXPECT_NE(FrozenTables::read(file).error().message.find("not finite"), std::string::npos);
  tables.head.pop_back();
  EXPECT_FALSE(tables.write(file).has_value());
}

TEST(Checksum, DependsOnLengthOrderAndWhatCameBefore) {
  const std::string text(100, 'a');
  const auto of = [](const std::string& bytes, uint64_t seed = 0) {
    return checksum(bytes_of(bytes), seed);
  };
  EXPECT_NE(of(std::string("\0", 1)), of(std::string("\0\0", 2)));
  EXPECT_NE(of("ab"), of("ba"));
  EXPECT_NE(of(text, 1), of(text, 2));
  EXPECT_NE(of("x" + text), of(text + "x"));
}

}  // namespace
}  // namespace ultraspeed::train
