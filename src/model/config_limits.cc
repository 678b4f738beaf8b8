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

Result<float> read_rope_theta(const JsonObject& json) {
  US_ASSIGN(auto theta, json.optional_number("rope_theta", kMinPositive, kMaxRopeTheta));
  US_ASSIGN(const auto parameters, json.optional_object("rope_parameters"));
  if (!theta && parameters) {
    US_ASSIGN(theta, parameters->optional_number("rope_theta", kMinPositive, kMaxRopeTheta));
  }
  if (!theta) return json.missing("rope_theta");
  return static_cast<float>(*theta);
}

Status check_rope_type(const JsonObject& json, std::string_view key) {
  US_ASSIGN(const auto section, json.optional_object(key));
  if (!section) return {};
  for (const std::string_view type_key : {"rope_type", "type"}) {
    US_ASSIGN(const auto type, section->optional_string(type_key));
    if (type && *type != "default") return section->unsupported(type_key, "only \"default\" is");
  }
  return {};
}

}  // namespace ultraspeed::model
