// Tokens sorted by their bytes are the tree's preorder: each adds the nodes behind what it shares
// with the one before it.
#include "grammar/vocabulary.h"

#include <algorithm>
#include <limits>

#include "grammar/plain_runs.h"

namespace ultraspeed::grammar {

Result<Vocabulary> Vocabulary::make(std::span<const std::string_view> token_bytes,
                                    std::span<const int32_t> stop_ids) {
  Vocabulary vocabulary;
  vocabulary.stop_ids_.assign(stop_ids.begin(), stop_ids.end());
  std::sort(vocabulary.stop_ids_.begin(), vocabulary.stop_ids_.end());
  for (const int32_t id : stop_ids) {
    if (id < 0 || static_cast<size_t>(id) >= token_bytes.size()) {
      return make_error(ErrorCode::kInvalidArgument, "stop token {} of a vocabulary of {}", id,
                        token_bytes.size());
    }
  }
  for (size_t id = 0; id < token_bytes.size(); ++id) {
    vocabulary.offsets_.push_back(static_cast<uint32_t>(vocabulary.bytes_.size()));
    if (vocabulary.is_stop(static_cast<int32_t>(id))) continue;
    const std::string_view bytes = token_bytes[id];
    if (bytes.size() > std::numeric_limits<uint16_t>::max()) {
      return make_error(ErrorCode::kInvalidArgument, "token {} has {} bytes", id, bytes.size());
    }
    vocabulary.bytes_ += bytes;
    vocabulary.max_token_bytes_ = std::max(vocabulary.max_token_bytes_, bytes.size());
    if (!bytes.empty()) vocabulary.tokens_.push_back(static_cast<int32_t>(id));
  }
  vocabulary.offsets_.push_back(static_cast<uint32_t>(vocabulary.bytes_.size()));
  vocabulary.build_tree();
  vocabulary.find_plain();
  return vocabulary;
}

bool Vocabulary::is_stop(int32_t id) const {
  return std::binary_search(stop_ids_.begin(), stop_ids_.end(), id);
}

void Vocabulary::build_tree() {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
  std::vector<uint32_t> path = {0};  // nodes of the token before, by depth
  nodes_.push_back({0, 0, 0, 0, 0});
  std::string_view before;
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view token = bytes(tokens_[i]);
    const auto shared = static_cast<size_t>(
        std::mismatch(token.begin(), token.end(), before.begin(), before.end()).first -
        token.begin());
    for (; path.size() > shared + 1; path.pop_back()) {
      nodes_[path.back()].subtree_end = static_cast<uint32_t>(nodes_.size());
    }
    for (size_t depth = shared + 1; depth <= token.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back(
          {0, i, static_cast<uint16_t>(depth), static_cast<uint8_t>(token[depth - 1]), 0});
    }
    before = token;
  }
  for (const uint32_t node : path) nodes_[node].subtree_end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), 0, 0, 0});
}

// Backwards, so that a node comes after its children. Bytes below a node that is inside of a
// character begin with a continuation byte.
void Vocabulary::find_plain() {
  const size_t num_words = mask_words(size());
  plain_masks_.resize((kMaxPlainCharacters + 1) * num_words);
  const auto is_continuation = [](uint8_t byte) { return (byte & 0xC0U) == 0x80; };
  for (size_t node = nodes_.size() - 1; node-- > 0;) {
    uint32_t most = 0;
    for (const int32_t id : tokens(node)) {
      const uint32_t count = count_plain(bytes(id));
      const auto word = static_cast<size_t>(id) / 64;
      for (size_t i = count; i <= kMaxPlainCharacters; ++i) {
        plain_masks_[i * num_words + word] |= uint64_t{1} << (id % 64);
      }
      if (count > kMaxPlainCharacters) most = kNotAllPlain;
    }
    for (uint32_t child = static_cast<uint32_t>(node) + 1; child < nodes_[node].subtree_end;
         child = nodes_[child].subtree_end) {
      const uint32_t below = nodes_[child].plain_characters;
      const bool is_inside = is_continuation(nodes_[child].byte);
      most = below == kNotAllPlain ? kNotAllPlain : std::max(most, below + (is_inside ? 0 : 1));
      if (most == kNotAllPlain) break;
    }
    nodes_[node].plain_characters = static_cast<uint8_t>(most);
  }
}

std::span<const uint64_t> Vocabulary::plain_mask(uint32_t max_characters) const {
  const size_t num_words = mask_words(size());
  return std::span(plain_masks_)
      .subspan(std::min(max_characters, kMaxPlainCharacters) * num_words, num_words);
}

}  // namespace ultraspeed::grammar
