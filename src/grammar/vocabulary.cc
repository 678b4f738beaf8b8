// Tokens sorted by their bytes are the tree's preorder: each adds the nodes behind what it shares
// with the one before it.
#include "grammar/vocabulary.h"

#include <algorithm>
#include <limits>

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
  return vocabulary;
}

bool Vocabulary::is_stop(int32_t id) const {
  return std::binary_search(stop_ids_.begin(), stop_ids_.end(), id);
}

void Vocabulary::build_tree() {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
  std::vector<uint32_t> path = {0};  // nodes of the token before, by depth
  nodes_.push_back({0, 0, 0, 0});
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
          {0, i, static_cast<uint16_t>(depth), static_cast<uint8_t>(token[depth - 1])});
    }
    before = token;
  }
  for (const uint32_t node : path) nodes_[node].subtree_end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), 0, 0});
}

}  // namespace ultraspeed::grammar
