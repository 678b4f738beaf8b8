// A tokenizer's vocabulary as grammars see it: the bytes of each token, arranged as a tree, so that
// tokens that begin alike are looked at together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::grammar {

// Masks have a bit a token, in words of 64, as program::TokenMask has them.
constexpr size_t mask_words(size_t vocab_size) {
  return (vocab_size + 63) / 64;
}

// Immutable; may be shared by threads.
class Vocabulary {
 public:
  // token_bytes[id]: what the token stands for; empty for one that no text is made of (special
  // tokens, ids without a token), which no grammar allows. stop_ids end a text: they are allowed
  // where it is complete, and only as that. Errors: kInvalidArgument for a stop id that is no id,
  // or a token of more than 64 KiB.
  static Result<Vocabulary> make(std::span<const std::string_view> token_bytes,
                                 std::span<const int32_t> stop_ids);

  size_t size() const { return offsets_.size() - 1; }
  std::span<const int32_t> stop_ids() const { return stop_ids_; }
  bool is_stop(int32_t id) const;
  // Empty for an id that no grammar allows.
  std::string_view bytes(int32_t id) const {
    const auto index = static_cast<size_t>(id);
    return std::string_view(bytes_).substr(offsets_[index], offsets_[index + 1] - offsets_[index]);
  }
  size_t max_token_bytes() const { return max_token_bytes_; }

  // A node stands for the bytes on the way to it. Nodes are in preorder, children by ascending
  // byte; node 0 is the root.
  struct Node {
    uint32_t subtree_end;  // the first node that is not below this one
    uint32_t first_token;  // of tokens()
    uint16_t depth;        // in bytes
    uint8_t byte;          // the last
    // The most characters that a token adds to this node's, if those of all tokens here and below
    // are whole and plain (plain_runs.h); kNotAllPlain otherwise.
    uint8_t plain_characters;
  };
  static constexpr uint8_t kNotAllPlain = 255;
  static constexpr uint32_t kMaxPlainCharacters = 64;  // longer tokens do not count as plain
  std::span<const Node> nodes() const { return std::span(nodes_).first(nodes_.size() - 1); }
  // The tokens that are exactly a node's bytes.
  std::span<const int32_t> tokens(size_t node) const {
    return std::span(tokens_).subspan(nodes_[node].first_token,
                                      nodes_[node + 1].first_token - nodes_[node].first_token);
  }
  // Those of a node and all below it.
  std::span<const int32_t> subtree_tokens(size_t node) const {
    const uint32_t end = nodes_[nodes_[node].subtree_end].first_token;
    return std::span(tokens_).subspan(nodes_[node].first_token, end - nodes_[node].first_token);
  }
  // The mask of the plain tokens of up to so many characters.
  std::span<const uint64_t> plain_mask(uint32_t max_characters) const;

 private:
  Vocabulary() = default;
  void build_tree();
  void find_plain();

  std::string bytes_;              // of all tokens
  std::vector<uint32_t> offsets_;  // [tokens + 1], into bytes_
  std::vector<int32_t> stop_ids_;  // ascending
  std::vector<int32_t> tokens_;    // by their bytes
  std::vector<Node> nodes_;        // and one more, for the end of the last one's tokens
  size_t max_token_bytes_ = 0;
  std::vector<uint64_t> plain_masks_;  // [kMaxPlainCharacters + 1, mask words]
};

}  // namespace ultraspeed::grammar
