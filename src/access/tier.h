// The two modes of a model.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ultraspeed::access {

enum class Tier : uint8_t {
  kStandard,  // autoregressive
  kFast,      // the UltraSpeed mode
};
inline constexpr size_t kNumTiers = 2;
inline constexpr std::array<std::string_view, kNumTiers> kTierNames = {"standard", "fast"};

// As the ledger and the configuration say it.
constexpr std::string_view tier_name(Tier tier) {
  return kTierNames[static_cast<size_t>(tier)];
}

}  // namespace ultraspeed::access
