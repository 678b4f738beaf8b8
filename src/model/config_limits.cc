#include "model/config_limits.h"

namespace ultraspeed::model {

Result<float> read_rms_norm_eps(const JsonObject& json) {
  US_ASSIGN(const auto rms, json.optional_number("rms_norm_eps", kMinPositive, 0.1));
  US_ASSIGN(const auto layernorm, json.optional_number("layernorm_epsilon", kMinPositive, 0.1));
  if (!rms && !layernorm) return json.missing("rms_norm_eps");
  if (rms && layernorm && *rms != *layernorm) {
    return json.wrong("layernorm_epsilon", fmt::format("{}, as key 'rms_norm_eps'", *rms));
  }
  return static_cast<float>(rms ? *rms : *layernorm);
}

Status check_rope_type(const JsonObject& json, std::string_view key, std::string_view scaled) {
  US_ASSIGN(const auto section, json.optional_object(key));
  if (!section) return {};
  for (const std::string_view type_key : {"rope_type", "type"}) {
    US_ASSIGN(const auto type, section->optional_string(type_key));
    if (!type || *type == "default" || *type == scaled) continue;
    if (scaled == "default") return section->unsupported(type_key, "only \"default\" is");
    return section->unsupported(type_key, fmt::format("only \"default\" and \"{}\" are", scaled));
  }
  return {};
}

}  // namespace ultraspeed::model
