// Sets of bytes.
#include "grammar/grammar.h"

#include <bit>

#include "base/check.h"

namespace ultraspeed::grammar {

ByteSet& ByteSet::operator|=(const ByteSet& other) {
  for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  return *this;
}

size_t ByteSet::size() const {
  size_t count = 0;
  for (const uint64_t word : words_) count += static_cast<size_t>(std::popcount(word));
  return count;
}

uint8_t ByteSet::front() const {
  for (size_t i = 0; i < words_.size(); ++i) {
    if (words_[i] != 0) {
      return static_cast<uint8_t>(i * 64 + static_cast<size_t>(std::countr_zero(words_[i])));
    }
  }
  US_CHECK(false, "an empty set");
  return 0;
}

size_t Grammar::num_bytes() const {
  return states_.size() * sizeof(State) + edges_.size() * sizeof(Edge) +
         calls_.size() * sizeof(Call) + dense_.size() * sizeof(StateId) +
         first_bytes_.size() * sizeof(ByteSet);
}

}  // namespace ultraspeed::grammar
