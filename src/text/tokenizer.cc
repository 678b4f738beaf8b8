// The pipeline: malformed UTF-8 out, added tokens, NFC, added tokens again (those that are looked
// for in normalized text), words, BPE. Between two added tokens the text is treated as a whole,
// wherever plain ranges begin and end.
#include "text/tokenizer.h"

#include <algorithm>

#include "base/check.h"
#include "base/mapped_file.h"
#include "text/byte_level.h"
#include "text/nfc.h"
#include "text/tokenizer_json.h"

namespace ultraspeed::text {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;  // the largest known file has 34 MB

// The parts of ascending ranges that lie in `window`, relative to its begin.
std::vector<ByteRange> clip(std::span<const ByteRange> ranges, ByteRange window) {
  std::vector<ByteRange> clipped;
  const auto first = std::partition_point(
      ranges.begin(), ranges.end(), [&](const ByteRange& r) { return r.end <= window.begin; });
  for (auto it = first; it != ranges.end() && it->begin < window.end; ++it) {
    clipped.push_back({std::max(it->begin, window.begin) - window.begin,
                       std::min(it->end, window.end) - window.begin});
  }
  return clipped;
}

std::string_view slice(std::string_view text, ByteRange range) {
  return text.substr(range.begin, range.end - range.begin);
}

void check_plain_ranges(std::span<const ByteRange> ranges, size_t text_bytes) {
  size_t previous_end = 0;
  for (const ByteRange& range : ranges) {
    US_CHECK(previous_end <= range.begin && range.begin <= range.end && range.end <= text_bytes,
             "plain range [{}, {}) after {} in a text of {} bytes", range.begin, range.end,
             previous_end, text_bytes);
    previous_end = range.end;
  }
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(TokenizerSpec spec);

  struct Token {
    std::string bytes;
    bool is_added = false;
    bool is_special = false;
    bool is_border = false;
  };

  std::vector<Token> tokens;                     // by id; gaps are empty
  std::unordered_map<std::string, int32_t> ids;  // by spelling
  Bpe bpe;
  bool ignore_merges;
  bool normalizes_nfc;
  PreTokenizer pre_tokenizer;
  AddedTokenFinder raw_finder;         // in the text as given
  AddedTokenFinder normalized_finder;  // in the normalized text
  std::vector<int32_t> prefix_ids;
  std::vector<int32_t> suffix_ids;
  size_t border_reach_bytes = 0;

  class Encoder;
};

namespace {

std::vector<AddedToken> select_added(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedToken> selected;
  for (AddedToken token : spec.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized && spec.normalizes_nfc) token.content = normalize_nfc(token.content).text;
    const bool is_new = std::none_of(selected.begin(), selected.end(), [&](const auto& other) {
      return other.content == token.content;
    });
    if (is_new) selected.push_back(std::move(token));
  }
  return selected;
}

}  // namespace

Tokenizer::Parts::Parts(TokenizerSpec spec)
    : ids(std::move(spec.ids)),
      bpe(spec.byte_tokens, spec.merges),
      ignore_merges(spec.ignore_merges),
      normalizes_nfc(spec.normalizes_nfc),
      pre_tokenizer(std::move(spec.pre_tokenizer)),
      raw_finder(select_added(spec, false)),
      normalized_finder(select_added(spec, true)),
      prefix_ids(std::move(spec.prefix_ids)),
      suffix_ids(std::move(spec.suffix_ids)) {
  const auto token_at = [&](int32_t id) -> Token& {
    const auto index = static_cast<size_t>(id);
    if (index >= tokens.size()) tokens.resize(index + 1);
    return tokens[index];
  };
  for (const auto& [spelling, id] : ids) token_at(id).bytes = byte_level_decode(spelling);
  // Those look beyond their begin and end.
  const bool has_single_words = std::ranges::any_of(spec.added_tokens, &AddedToken::single_word);
  for (const AddedToken& added : spec.added_tokens) {
    Token& token = token_at(added.id);
    token.is_added = true;
    token.is_special = added.special;
    token.is_border = added.special && !added.normalized && !has_single_words;
    if (!added.normalized) {
      border_reach_bytes = std::max(border_reach_bytes, added.content.size());
    }
    if (added.normalized && normalizes_nfc) {
      token.bytes = byte_level_decode(normalize_nfc(added.content).text);
    }
  }
}

// One call of encode().
class Tokenizer::Parts::Encoder {
 public:
  explicit Encoder(const Parts& parts)
      : parts_(parts), matchers_(parts.pre_tokenizer.make_matchers()) {}

  // Encodes a text without malformed bytes, with its plain ranges.
  Status encode(std::string_view text, std::span<const ByteRange> plain) {
    for (const AddedTokenPiece& piece : parts_.raw_finder.split(text, plain)) {
      if (piece.id != AddedTokenPiece::kText) {
        ids_.push_back(piece.id);
      } else {
        US_TRY(encode_piece(slice(text, piece.range), clip(plain, piece.range)));
      }
    }
    return {};
  }

  std::vector<int32_t> take_ids() { return std::move(ids_); }

 private:
  // Encodes what lies between two added tokens.
  Status encode_piece(std::string_view text, const std::vector<ByteRange>& plain) {
    if (!parts_.normalizes_nfc) return encode_normalized(text, plain);
    const RewrittenText nfc = normalize_nfc(text);
    return encode_normalized(nfc.text, map_ranges(plain, nfc.edits));
  }

  Status encode_normalized(std::string_view text, const std::vector<ByteRange>& plain) {
    for (const AddedTokenPiece& piece : parts_.normalized_finder.split(text, plain)) {
      if (piece.id != AddedTokenPiece::kText) {
        ids_.push_back(piece.id);
        continue;
      }
      US_ASSIGN(const Words words, parts_.pre_tokenizer.split(slice(text, piece.range), matchers_));
      for (const std::string_view word : words.words) encode_word(word);
    }
    return {};
  }

  void encode_word(std::string_view word) {
    if (parts_.ignore_merges) {
      const auto found = parts_.ids.find(byte_level_encode(word));
      // A word never becomes an added token: those come out of the finders alone.
      if (found != parts_.ids.end() &&
          !parts_.tokens[static_cast<size_t>(found->second)].is_added) {
        ids_.push_back(found->second);
        return;
      }
    }
    parts_.bpe.encode(word, scratch_, ids_);
  }

  const Parts& parts_;
  PreTokenizer::Matchers matchers_;
  Bpe::Scratch scratch_;
  std::vector<int32_t> ids_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file.size_bytes() > kMaxFileBytes) {
    return make_error(ErrorCode::kUnsupported, "{}: a tokenizer of {} bytes; expected at most {}",
                      path, file.size_bytes(), kMaxFileBytes);
  }
  std::string json(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span(json))));
  return from_json(json, path);
}

Result<Tokenizer> Tokenizer::from_json(std::string_view json, const std::string& name) {
  US_ASSIGN(TokenizerSpec spec, parse_tokenizer_json(json, name));
  return Tokenizer(std::make_unique<const Parts>(std::move(spec)));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  check_plain_ranges(options.plain_ranges, text.size());
  const RewrittenText valid = replace_malformed(text);
  std::vector<ByteRange> plain(options.plain_ranges.begin(), options.plain_ranges.end());
  if (!options.parse_special) plain = {{0, text.size()}};
  std::erase_if(plain, [](const ByteRange& range) { return range.begin == range.end; });
  plain = map_ranges(plain, valid.edits);
  Parts::Encoder encoder(*parts_);
  US_TRY(encoder.encode(valid.text, plain));
  std::vector<int32_t> ids = encoder.take_ids();
  if (options.add_special_tokens) {
    ids.insert(ids.begin(), parts_->prefix_ids.begin(), parts_->prefix_ids.end());
    ids.insert(ids.end(), parts_->suffix_ids.begin(), parts_->suffix_ids.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return replace_malformed(bytes).text;
}

size_t Tokenizer::vocab_size() const {
  return parts_->tokens.size();
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size()) return {};
  return parts_->tokens[static_cast<size_t>(id)].bytes;
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() &&
         parts_->tokens[static_cast<size_t>(id)].is_special;
}

bool Tokenizer::is_border(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() &&
         parts_->tokens[static_cast<size_t>(id)].is_border;
}

size_t Tokenizer::border_reach_bytes() const {
  return parts_->border_reach_bytes;
}

std::optional<int32_t> Tokenizer::find_token(std::string_view spelling) const {
  const auto found = parts_->ids.find(std::string(spelling));
  if (found == parts_->ids.end()) return std::nullopt;
  return found->second;
}

}  // namespace ultraspeed::text
