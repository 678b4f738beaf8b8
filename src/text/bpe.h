// Byte-pair encoding of one word over bytes (Sennrich et al. 2016, arXiv:1508.07909): of all
// adjacent pairs with a merge rule the one of lowest rank is merged, leftmost first, until none is
// left. O(n log n) in the word's length.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ultraspeed::text {

// The rule of rank i is merges[i]: the tokens left and right become the token result.
struct BpeMerge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

class Bpe {
 public:
  static constexpr int32_t kNoToken = -1;

  // What one thread needs to encode; it also remembers the words it met, within bounds.
  class Scratch;

  Bpe() : Bpe({}, {}) {}
  // byte_tokens: the token of each single byte, kNoToken for a byte that no word contains. Of equal
  // pairs the last rule counts, as in the reference library. REQUIRES: ids are not negative.
  Bpe(const std::array<int32_t, 256>& byte_tokens, std::span<const BpeMerge> merges);

  // Appends the word's tokens to out. REQUIRES: every byte of the word has a token.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const;

 private:
  struct Rule {
    uint64_t pair = kEmptySlot;
    uint32_t rank = 0;
    int32_t result = kNoToken;
  };
  static constexpr uint64_t kEmptySlot = ~uint64_t{0};

  static uint64_t make_pair_key(int32_t left, int32_t right) {
    return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
  }
  Rule& slot_of(uint64_t pair);
  const Rule* find_rule(int32_t left, int32_t right) const;  // null if the pair has none
  void merge_word(std::string_view word, Scratch& scratch) const;
  void push_candidate(uint32_t position, Scratch& scratch) const;

  std::array<int32_t, 256> byte_tokens_;
  std::vector<Rule> rules_;  // open addressing, a power of two of slots, at most half full
};

class Bpe::Scratch {
 private:
  friend class Bpe;

  static constexpr size_t kMaxCachedWords = 1 << 14;
  static constexpr size_t kMaxCachedWordBytes = 64;

  // A token so far, in a doubly linked list over the positions of the word's bytes.
  struct Symbol {
    int32_t token = kNoToken;  // kNoToken: merged into a symbol to its left
    uint32_t previous = 0;
    uint32_t next = 0;
  };
  struct Candidate {
    uint32_t rank = 0;
    uint32_t position = 0;  // of the left symbol
    int32_t result = kNoToken;
    // The heap keeps the lowest rank, then the leftmost, on top.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  struct HashWord {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
  };

  std::vector<Symbol> symbols_;
  std::vector<Candidate> candidates_;  // a binary heap
  std::unordered_map<std::string, std::vector<int32_t>, HashWord, std::equal_to<>> cache_;
};

}  // namespace ultraspeed::text
