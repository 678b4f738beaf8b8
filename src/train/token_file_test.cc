// Token files: what is written is read, and what is damaged is named.
#include "train/token_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/temporary_directory.h"

namespace ultraspeed::train {
namespace {

class TokenFileTest : public testing::Test {
 protected:
  TokenFileTest() {
    tokens_.vocab_size = 100;
    tokens_.add_text(std::vector<int32_t>{5, 99, 0}, 2);
    tokens_.add_text({}, 2);
  }

  std::string bytes() const {
    EXPECT_TRUE(tokens_.write(path_).has_value());
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static std::string error_of(const std::string& bytes) {
    const auto read = TokenFile::parse("x.tokens", std::as_bytes(std::span(bytes)));
    return read ? std::string() : read.error().message;
  }

  test::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/x.tokens";
  TokenFile tokens_;
};

TEST_F(TokenFileTest, ReadsWhatWasWritten) {
  ASSERT_TRUE(tokens_.write(path_).has_value());
  const auto read = TokenFile::read(path_);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->vocab_size, 100u);
  EXPECT_EQ(read->num_texts, 2u);
  EXPECT_EQ(read->ids, (std::vector<int32_t>{5, 99, 0, 2, 2}));
}

TEST_F(TokenFileTest, EveryByteIsUnderAChecksum) {
  const std::string whole = bytes();
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_NE(error_of(damaged), "") << i;
    EXPECT_NE(error_of(whole.substr(0, i)), "") << i;
  }
  EXPECT_EQ(error_of(whole), "");
  EXPECT_NE(error_of(whole + "more").find("24 bytes of tokens where 5 tokens"), std::string::npos);
  EXPECT_NE(error_of("").find("x.tokens: expected a file of tokens"), std::string::npos);
}

TEST_F(TokenFileTest, RefusesIdsOutsideTheVocabulary) {
  for (const int32_t id : {100, -1}) {
    tokens_.ids[1] = id;
    EXPECT_EQ(error_of(bytes()), fmt::format("x.tokens: token 1 is {}; expected 0 to 99", id));
  }
}

TEST_F(TokenFileTest, NamesTheFileThatIsNotThere) {
  const auto read = TokenFile::read(directory_.path() + "/none");
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("/none"), std::string::npos);
  EXPECT_FALSE(tokens_.write(directory_.path() + "/no/folder").has_value());
}

}  // namespace
}  // namespace ultraspeed::train
