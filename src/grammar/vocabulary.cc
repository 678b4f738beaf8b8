// Sorted by their bytes, the tokens below a node are neighbours. Nodes are made level by level, so
// that a walk reads children one behind the other.
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

bool Vocabulary::has_longer(std::string_view bytes) const {
  uint32_t index = 0;
  for (const char c : bytes) {
    uint32_t child = nodes_[index].first_child;
    const uint32_t end = children_end(index);
    while (child < end && nodes_[child].byte != static_cast<uint8_t>(c)) ++child;
    if (child == end) return false;
    index = child;
  }
  return nodes_[index].first_child < children_end(index);
}

void Vocabulary::build_tree() {
  std::sort(tokens_.begin(), tokens_.end(), [&](int32_t a, int32_t b) {
    return bytes(a) != bytes(b) ? bytes(a) < bytes(b) : a < b;
  });
  nodes_.push_back({0, 0, static_cast<uint32_t>(tokens_.size()), 0, 0});
  size_t level_end = 1;
  for (size_t i = 0, depth = 0; i < nodes_.size(); ++i) {
    if (i == level_end) {
      level_end = nodes_.size();
      ++depth;
    }
    nodes_[i].first_child = static_cast<uint32_t>(nodes_.size());
    const uint32_t end = nodes_[i].end_token;
    uint32_t token = nodes_[i].first_token;
    while (token < end && bytes(tokens_[token]).size() == depth) ++token;
    while (token < end) {
      const char byte = bytes(tokens_[token])[depth];
      const uint32_t first = token;
      while (token < end && bytes(tokens_[token])[depth] == byte) ++token;
      nodes_.push_back({0, first, token, static_cast<uint8_t>(byte), 0});
    }
  }
  const auto num_nodes = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({num_nodes, 0, 0, 0, 0});
}

std::span<const int32_t> Vocabulary::tokens(uint32_t index) const {
  const Node& node = nodes_[index];
  const bool is_leaf = node.first_child == children_end(index);
  const uint32_t end = is_leaf ? node.end_token : nodes_[node.first_child].first_token;
  return std::span(tokens_).subspan(node.first_token, end - node.first_token);
}

// Children first. A byte that continues a character adds none.
void Vocabulary::find_plain() {
  const size_t num_words = mask_words(size());
  plain_masks_.resize((kMaxPlainCharacters + 1) * num_words);
  for (uint32_t index = static_cast<uint32_t>(num_nodes()); index-- > 0;) {
    uint32_t most = 0;
    for (const int32_t id : tokens(index)) {
      const uint32_t count = count_plain(bytes(id));
      const auto word = static_cast<size_t>(id) / 64;
      for (size_t i = count; i <= kMaxPlainCharacters; ++i) {
        plain_masks_[i * num_words + word] |= uint64_t{1} << (id % 64);
      }
      if (count > kMaxPlainCharacters) most = kNotAllPlain;
    }
    for (uint32_t i = nodes_[index].first_child; i < children_end(index); ++i) {
      const bool is_inside = (nodes_[i].byte & 0xC0U) == 0x80;
      const uint32_t below = nodes_[i].plain_characters;
      most = std::max(most, below == kNotAllPlain || is_inside ? below : below + 1);
    }
    nodes_[index].plain_characters = static_cast<uint8_t>(most);
  }
}

std::span<const uint64_t> Vocabulary::plain_mask(uint32_t max_characters) const {
  const size_t num_words = mask_words(size());
  return std::span(plain_masks_)
      .subspan(std::min(max_characters, kMaxPlainCharacters) * num_words, num_words);
}

}  // namespace ultraspeed::grammar
