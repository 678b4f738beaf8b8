// A byte-level BPE tokenizer as Hugging Face's tokenizer.json describes it (the MiMo, Qwen, Llama-3
// and gpt-oss families): text to token ids and back, id for id as the reference library does.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/utf8.h"

namespace ultraspeed::text {

struct EncodeOptions {
  // Whether strings such as "<|im_end|>" become their token. If not, they are plain text.
  bool parse_special = true;
  // Whether to add what the file's post-processor adds (a begin-of-text token). Chat templates
  // write that token themselves.
  bool add_special_tokens = false;
  // Ranges of the text, ascending and disjoint, that no such token may overlap: the user's words in
  // a prompt, say. Nothing else changes at their borders.
  std::span<const ByteRange> plain_ranges = {};
};

// Immutable; all members may be called from any thread.
class Tokenizer {
 public:
  // Reads a tokenizer.json. Errors name the file and the JSON path: kNotFound, kIo, kInvalidData,
  // kUnsupported.
  static Result<Tokenizer> load(const std::string& path);
  // The same from memory; `name` stands for the file in error messages.
  static Result<Tokenizer> from_json(std::string_view json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of a text. Malformed UTF-8 is read as U+FFFD (utf8.h). Errors: kInvalidArgument when a
  // regular expression of the pre-tokenizer reaches its limit, which those of the named families do
  // on no text. REQUIRES: the plain ranges are ascending, disjoint and inside of the text.
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;

  // The text of ids; bytes that are not UTF-8 become U+FFFD, ids without a token are skipped.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // One more than the largest id. A model may have more rows (padding), without tokens.
  size_t vocab_size() const;

  // The bytes that a token stands for: often part of a character. Empty for an id without a token.
  std::string_view token_bytes(int32_t id) const;

  // Whether a decoding that skips special tokens skips this one.
  bool is_special(int32_t id) const;

  // Whether it is a special token that encode() looks for in the text as given: what stands before
  // it and what stands behind it are encoded apart.
  bool is_border(int32_t id) const;
  // How far behind a border's begin the text decides whether it is there: a longer token may begin
  // alike.
  size_t border_reach_bytes() const;

  // The id of an added token by its text, or of a vocabulary entry as tokenizer.json spells it.
  std::optional<int32_t> find_token(std::string_view spelling) const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace ultraspeed::text
