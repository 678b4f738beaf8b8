// The page's routes of keys.
#include <fmt/format.h>

#include "server/page_api.h"
#include "server/page_responses.h"

namespace ultraspeed::server {
namespace {

constexpr int64_t kMaxPlanTokens = INT64_C(1) << 53;

ApiStatus read_limit(const Fields& fields, std::string_view name, uint32_t* limit) {
  int64_t value = *limit;
  US_TRY(fields.read_integer(name, 0, UINT32_MAX, &value));
  *limit = static_cast<uint32_t>(value);
  return {};
}

ApiStatus read_kind(const Fields& fields, access::KeySpec* spec) {
  std::string kind(access::kind_name(access::KeyKind::kPayAsYouGo));
  US_TRY(fields.read("kind", &kind));
  if (kind == access::kind_name(access::KeyKind::kTokenPlan)) {
    spec->kind = access::KeyKind::kTokenPlan;
  } else if (kind != access::kind_name(access::KeyKind::kPayAsYouGo)) {
    return invalid_field("kind", fmt::format("'kind' is '{}'; it must be 'pay-as-you-go' or "
                                             "'token-plan'.",
                                             kind));
  }
  if (fields.find("plan_tokens") == nullptr) return {};  // which a plan needs: Keys::create()
  int64_t allowance = 0;
  US_TRY(fields.read_integer("plan_tokens", 1, kMaxPlanTokens, &allowance));
  spec->limits.allowance_tokens = allowance;
  spec->limits.budget.reset();
  return {};
}

// `limits`: of what is not said.
ApiResult<access::KeySpec> read_spec(const Json& body, const access::KeyLimits& limits,
                                     access::UtcTime now) {
  US_TRY(
      check_fields(body, {"account", "name", "kind", "plan_tokens", "budget", "requests_per_minute",
                          "tokens_per_minute", "max_concurrent", "expires_days"}));
  const Fields fields(body);
  access::KeySpec spec;
  spec.limits = limits;
  US_ASSIGN(spec.account, required_string(fields, "account"));
  US_ASSIGN(spec.name, required_string(fields, "name"));
  US_TRY(read_kind(fields, &spec));
  if (body.contains("budget") && body["budget"].is_null()) spec.limits.budget.reset();
  std::string budget;
  US_TRY(fields.read("budget", &budget));
  if (!budget.empty()) {
    US_ASSIGN(spec.limits.budget, stored(access::Money::parse(budget)));
  }
  US_TRY(read_limit(fields, "requests_per_minute", &spec.limits.requests_per_minute));
  US_TRY(read_limit(fields, "tokens_per_minute", &spec.limits.tokens_per_minute));
  US_TRY(read_limit(fields, "max_concurrent", &spec.limits.max_concurrent));
  int64_t expires_days = 0;
  US_TRY(fields.read_integer("expires_days", 1, 36'500, &expires_days));
  if (expires_days > 0) spec.expires = now + std::chrono::days(expires_days);
  return spec;
}

net::HttpResponse made_response(const access::NewKey& made, access::UtcTime now) {
  return page_response(201, {{"key", key_json(made.key, now)}, {"secret", made.secret}});
}

}  // namespace

ApiResult<net::HttpResponse> PageApi::keys(const Call& call,
                                           std::optional<int64_t> account_id) const {
  US_ASSIGN(const auto before, id_before(call.request));
  US_ASSIGN(const auto list, allowed(service_->keys().list(account_id, kMaxListed, before)));
  Json keys = Json::array();
  for (const access::Key& key : list) keys.push_back(key_json(key, service_->now()));
  return page_response(200, {{"keys", std::move(keys)}, {"next", next_of(list)}});
}

ApiResult<net::HttpResponse> PageApi::revoke(const Call& call,
                                             std::optional<int64_t> account_id) const {
  US_ASSIGN(const access::Key key, allowed(service_->keys().revoke(call.last_segment, account_id,
                                                                   call.identity.account.name)));
  return page_response(200, {{"key", key_json(key, service_->now())}});
}

ApiResult<net::HttpResponse> PageApi::own_keys(const Call& call) const {
  return keys(call, call.identity.account.id);
}

ApiResult<net::HttpResponse> PageApi::create_own_key(const Call& call) const {
  US_TRY(check_fields(call.body, {"name"}));  // its limits are the configured ones
  US_ASSIGN(const std::string name, required_string(Fields(call.body), "name"));
  US_ASSIGN(const access::NewKey made,
            allowed(service_->create_own_key(call.identity.account, name)));
  return made_response(made, service_->now());
}

ApiResult<net::HttpResponse> PageApi::revoke_own_key(const Call& call) const {
  return revoke(call, call.identity.account.id);
}

ApiResult<net::HttpResponse> PageApi::all_keys(const Call& call) const {
  return keys(call, std::nullopt);
}

ApiResult<net::HttpResponse> PageApi::create_key(const Call& call) const {
  US_ASSIGN(const access::KeySpec spec,
            read_spec(call.body, service_->config().limits, service_->now()));
  US_ASSIGN(const access::NewKey made,
            allowed(service_->keys().create(spec, call.identity.account.name,
                                            {service_->config().max_keys_per_account})));
  return made_response(made, service_->now());
}

ApiResult<net::HttpResponse> PageApi::revoke_key(const Call& call) const {
  return revoke(call, std::nullopt);
}

}  // namespace ultraspeed::server
