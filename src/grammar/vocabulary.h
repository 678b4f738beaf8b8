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
  // Whether a token has these bytes and more.
  bool has_longer(std::string_view bytes) const;

  // A node stands for the bytes on the way to it. Node 0 is the root; the children of a node lie
  // together, by ascending byte, behind those of the nodes before it.
  struct Node {
    uint32_t first_child;
    uint32_t first_token;  // of the subtree's tokens, its own first
    uint32_t end_token;
    uint8_t byte;  // the last
    // The most characters that a token adds to this node's, if those of all tokens here and below
    // are whole and plain (plain_runs.h); kNotAllPlain otherwise.
    uint8_t plain_characters;
  };
  static constexpr uint8_t kNotAllPlain = 255;
  static constexpr uint32_t kMaxPlainCharacters = 64;  // longer tokens do not count as plain
  size_t num_nodes() const { return nodes_.size() - 1; }
  const Node& node(uint32_t index) const { return nodes_[index]; }
  uint32_t children_end(uint32_t index) const { return nodes_[index + 1].first_child; }
  // The tokens that are exactly a node's bytes.
  std::span<const int32_t> tokens(uint32_t index) const;
  // Those and all that go on from there.
  std::span<const int32_t> subtree_tokens(uint32_t index) const {
    const Node& node = nodes_[index];
    return std::span(tokens_).subspan(node.first_token, node.end_token - node.first_token);
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
  std::vector<Node> nodes_;        // and one more, for the end of the last one's children
  size_t max_token_bytes_ = 0;
  std::vector<uint64_t> plain_masks_;  // [kMaxPlainCharacters + 1, mask words]
};

}  // namespace ultraspeed::grammar
