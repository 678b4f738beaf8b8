// What access/ knows, as the page's JSON has it. docs/access.md lists the members.
#pragma once

#include <optional>
#include <vector>

#include "access/service.h"
#include "server/json_fields.h"

namespace ultraspeed::server {

// A mode of the served model.
struct PageModel {
  std::string id;
  std::optional<access::Tier> tier;  // nullopt: it has one mode
  std::string weights;               // "MXFP4 experts, FP8 ..."; may be empty
};

Json time_json(const std::optional<access::UtcTime>& time);  // null without one
Json application_json(const access::Application& application);
Json key_json(const access::Key& key, access::UtcTime now);
Json chat_json(const access::ChatState& state, access::UtcTime now);
Json standing_json(access::Gate& gate, access::Standing standing);
// [{"day",...}] and their sum.
Json usage_json(const std::vector<access::DayTotal>& days, const access::AccessConfig& config);
// The offer as everybody may see it, without an account.
Json offer_json(const access::AccessConfig& config, access::UtcTime now);
Json models_json(const std::vector<PageModel>& models, const access::AccessConfig* config);

}  // namespace ultraspeed::server
