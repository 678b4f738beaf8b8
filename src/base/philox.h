// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel Random
// Numbers: As Easy as 1, 2, 3" (SC 2011), section 3.3: word i of a stream is a pure function of
// (key, i), so that any thread can compute any one of them. On top of it: uniform and Gumbel
// variates by (seed, stream, index). All of it except the logarithms is integer arithmetic, equal
// on every machine.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace ultraspeed {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product_0 = uint64_t{0xd2511f53u} * counter[0];
    const uint64_t product_1 = uint64_t{0xcd9e8d57u} * counter[2];
    counter = {static_cast<uint32_t>(product_1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product_1),
               static_cast<uint32_t>(product_0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product_0)};
    key[0] += 0x9e3779b9u;  // the golden ratio
    key[1] += 0xbb67ae85u;  // sqrt(3) - 1
  }
  return counter;
}

// The four words with indices 4 * group to 4 * group + 3 of a seed's stream.
constexpr PhiloxCounter random_group(uint64_t seed, uint64_t stream, uint32_t group) {
  return philox4x32_10(
      {group, 0, static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

constexpr uint32_t random_bits(uint64_t seed, uint64_t stream, uint32_t index) {
  return random_group(seed, stream, index / 4)[index % 4];
}

// What numbers are drawn for beside the choice of a token, which uses the seed itself.
enum class RandomPurpose : uint32_t { kAcceptDraft, kRecoverToken, kDraftToken };

// A seed for one purpose, whose streams have nothing to do with those of the others: words of a
// stream of `seed` that no position of a text reaches.
constexpr uint64_t seed_for(uint64_t seed, RandomPurpose purpose) {
  const PhiloxCounter words = random_group(seed, ~uint64_t{0}, static_cast<uint32_t>(purpose));
  return uint64_t{words[1]} << 32 | words[0];
}

// The middle of the bits-th of 2^32 equal parts of (0, 1); exact, never 0 or 1.
constexpr double uniform_from_bits(uint32_t bits) {
  return (static_cast<double>(bits) + 0.5) * 0x1p-32;
}

constexpr double random_uniform(uint64_t seed, uint64_t stream, uint32_t index) {
  return uniform_from_bits(random_bits(seed, stream, index));
}

// A standard Gumbel variate, -log(-log(u)); argmax over i of log p[i] + gumbel[i] is i with
// probability p[i].
inline double gumbel_from_bits(uint32_t bits) {
  return -std::log(-std::log(uniform_from_bits(bits)));
}

// An upper bound of gumbel_from_bits without a logarithm. With v = ~bits, 1 - u = (v + 1/2) / 2^32
// exceeds 2^-(z + 1), z being v's leading zeros, and -log(u) > 1 - u; hence
// gumbel < -log(1 - u) < (z + 1) log 2.
constexpr double gumbel_upper_bound(uint32_t bits) {
  return 0.6931471805599454 * (std::countl_zero(~bits) + 1);
}

// The bound of the bound: z = 32.
inline constexpr double kMaxGumbel = gumbel_upper_bound(0xffffffffu);

}  // namespace ultraspeed
