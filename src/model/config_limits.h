// The largest sizes that configuration files may ask for, generous multiples of published models:
// they keep every product of a few of them inside 64 bits and every row count inside 32. Also the
// keys that several parsers share. Internal to model/.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "model/json_reader.h"

namespace ultraspeed::model {

inline constexpr uint64_t kMaxConfigBytes = 16U << 20;
inline constexpr uint32_t kMaxHiddenSize = 1U << 17;
inline constexpr uint32_t kMaxIntermediateSize = 1U << 20;
inline constexpr uint32_t kMaxLayers = 1024;
inline constexpr uint32_t kMaxHeads = 1024;
inline constexpr uint32_t kMaxHeadDim = 1024;
inline constexpr uint32_t kMaxExperts = 8192;
inline constexpr uint32_t kMaxVocabSize = 1U << 22;
inline constexpr uint32_t kMaxPositions = 1U << 28;
inline constexpr double kMinPositive = 1e-30;
inline constexpr double kMaxScale = 1e4;
inline constexpr double kMaxRopeTheta = 1e12;

// rms_norm_eps (transformers) or layernorm_epsilon (published); both must agree.
Result<float> read_rms_norm_eps(const JsonObject& json);

// RoPE's base: rope_theta, or in newer files rope_parameters.rope_theta.
Result<float> read_rope_theta(const JsonObject& json);

// `key` may hold a rope section ({"rope_type": ...}, older files "type"); only "default" is
// supported.
Status check_rope_type(const JsonObject& json, std::string_view key);

}  // namespace ultraspeed::model
