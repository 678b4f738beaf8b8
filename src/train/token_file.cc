#include "train/token_file.h"

#include "base/check.h"
#include "base/mapped_file.h"
#include "train/output_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kTokensMagic = 0x0a314e4b4f545355u;  // "USTOKN1\n"
constexpr size_t kVocabAt = 8, kTextsAt = 12, kNumTokensAt = 16, kIdsSumAt = 24, kTokensSumAt = 32;
constexpr size_t kTokensHeaderBytes = 40;

std::string header_of(const TokenFile& tokens) {
  std::string header;
  append(&header, kTokensMagic);
  append(&header, tokens.vocab_size);
  append(&header, tokens.num_texts);
  append(&header, uint64_t{tokens.ids.size()});
  append(&header, checksum(std::as_bytes(std::span(tokens.ids))));
  append(&header, checksum(bytes_of(header)));
  return header;
}

}  // namespace

void TokenFile::add_text(std::span<const int32_t> text, int32_t end) {
  ids.insert(ids.end(), text.begin(), text.end());
  ids.push_back(end);
  ++num_texts;
}

Status TokenFile::write(const std::string& path) const {
  const std::string header = header_of(*this);
  return write_file(path, {header, text_of(ids)});
}

Result<TokenFile> TokenFile::read(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::vector<std::byte> bytes(file.size_bytes());
  US_TRY(file.read(0, bytes));
  return parse(path, bytes);
}

Result<TokenFile> TokenFile::parse(const std::string& name, std::span<const std::byte> bytes) {
  const auto fail = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidData, "{}: {}", name, what);
  };
  if (bytes.size() < kTokensHeaderBytes || number_at<uint64_t>(bytes, 0) != kTokensMagic ||
      number_at<uint64_t>(bytes, kTokensSumAt) != checksum(bytes.first(kTokensSumAt))) {
    return fail("expected a file of tokens, as train-model tokens writes it");
  }
  TokenFile tokens;
  tokens.vocab_size = number_at<uint32_t>(bytes, kVocabAt);
  tokens.num_texts = number_at<uint32_t>(bytes, kTextsAt);
  const auto count = number_at<uint64_t>(bytes, kNumTokensAt);
  const auto rest = bytes.subspan(kTokensHeaderBytes);
  if (rest.size() % sizeof(int32_t) != 0 || rest.size() / sizeof(int32_t) != count) {
    return fail(fmt::format("{} bytes of tokens where {} tokens should be", rest.size(), count));
  }
  if (number_at<uint64_t>(bytes, kIdsSumAt) != checksum(rest)) {
    return fail("the checksum is wrong");
  }
  tokens.ids.resize(count);
  if (count > 0) std::memcpy(tokens.ids.data(), rest.data(), rest.size());
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.ids[i] >= 0 && static_cast<uint32_t>(tokens.ids[i]) < tokens.vocab_size) continue;
    return fail(fmt::format("token {} is {}; expected 0 to {}", i, tokens.ids[i],
                            int64_t{tokens.vocab_size} - 1));
  }
  return tokens;
}

}  // namespace ultraspeed::train
