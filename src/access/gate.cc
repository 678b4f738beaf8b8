#include "access/gate.h"

#include <fmt/format.h>

#include <algorithm>

#include "access/config.h"

namespace ultraspeed::access {
namespace {

bool takes_key(RouteClass route) {
  return route == RouteClass::kModels || route == RouteClass::kGenerate ||
         route == RouteClass::kMetrics;
}

bool takes_session(RouteClass route) {
  return route == RouteClass::kChat || route == RouteClass::kAccount ||
         route == RouteClass::kAdministration || route == RouteClass::kMetrics;
}

tl::unexpected<Refusal> administrators_only() {
  return refuse(403, "administrators_only", "Only administrators may do this.");
}

Identity identity_of(const Key& key) {
  return {key.account, key.id, key.public_part, key.kind, key.limits, key.spent, key.used_tokens};
}

}  // namespace

std::string_view standing_code(Standing standing) {
  switch (standing) {
    case Standing::kNoApplication:
      return "no_application";
    case Standing::kPending:
      return "application_pending";
    case Standing::kDeclined:
      return "application_declined";
    case Standing::kApprovedEarly:
      return "trial_not_begun";
    case Standing::kApproved:
      return "approved";
    case Standing::kEnded:
      return "trial_ended";
  }
  return "";
}

Answer<Identity> Gate::decide(const Question& question) {
  if (question.route == RouteClass::kPublic) return Identity{};
  const Credential& credential = question.credential;
  if (takes_key(question.route) && !credential.api_key.empty()) return by_key(question);
  if (takes_session(question.route) && !credential.session_token.empty()) {
    return by_session(question);
  }
  return refuse(401, "missing_credential",
                takes_key(question.route)
                    ? "Send an API key: Authorization: Bearer KEY."
                    : "Log in: this is for the page's users, and takes no API key.");
}

Answer<Identity> Gate::by_key(const Question& question) {
  US_ASSIGN(const Key key, keys_.find(question.credential.api_key));
  if (key.revoked) return refuse(401, "key_revoked", "This API key was revoked.");
  if (key.expires && *key.expires <= clock_.now()) {
    return refuse(
        401, "key_expired",
        fmt::format("This API key expired on {}.", config_.calendar.local_text(*key.expires)));
  }
  const uint32_t scope = question.route == RouteClass::kMetrics ? kScopeMetrics : kScopeGenerate;
  if ((key.scopes & scope) == 0) {
    return refuse(403, "scope", "This API key was not made for this.");
  }
  if (question.route == RouteClass::kMetrics && !key.account.is_administrator) {
    return administrators_only();
  }
  if (question.route != RouteClass::kGenerate) return identity_of(key);
  US_TRY(check_tier(question, key));
  return identity_of(key);
}

Answer<void> Gate::check_tier(const Question& question, const Key& key) {
  if (!question.tier) {
    const bool all_need_it = std::ranges::all_of(config_.tiers, &TierOptions::needs_approval);
    return all_need_it ? check_trial(key.account) : Answer<void>();
  }
  const TierOptions& tier = config_.tier(*question.tier);
  if (key.kind == KeyKind::kTokenPlan && !tier.takes_plan_keys) {
    return refuse(403, "plan_key_not_on_tier",
                  fmt::format("The {} tier is billed by use and takes no Token Plan keys (tp-...); "
                              "use a pay-as-you-go key (us-...), or the standard tier.",
                              tier_name(*question.tier)));
  }
  return tier.needs_approval ? check_trial(key.account) : Answer<void>();
}

Answer<Identity> Gate::by_session(const Question& question) {
  const Credential& credential = question.credential;
  US_ASSIGN(const Account account, accounts_.find_session(credential.session_token));
  if (question.has_effect &&
      !is_equal(credential.csrf_token, csrf_token_of(credential.session_token))) {
    return refuse(403, "csrf", "The request did not come from this service's page; reload it.");
  }
  const bool is_for_administrators =
      question.route == RouteClass::kAdministration || question.route == RouteClass::kMetrics;
  if (is_for_administrators && !account.is_administrator) return administrators_only();
  if (question.route == RouteClass::kChat) US_TRY(check_trial(account));
  Identity identity;
  identity.account = account;
  identity.limits = config_.limits;
  identity.limits.budget.reset();      // what sessions have is complimentary,
  identity.limits.max_concurrent = 0;  // and the chat bounds its answers
  return identity;
}

Answer<void> Gate::check_trial(const Account& account) {
  if (account.is_administrator) return {};
  US_ASSIGN(const Standing now, standing(account));
  if (now == Standing::kApproved) return {};
  Refusal refusal(403, std::string(standing_code(now)), standing_text(now));
  if (now == Standing::kApprovedEarly) {
    const auto wait = config_.window.begin(config_.calendar) - clock_.now();
    refusal.retry_after_s =
        static_cast<uint32_t>(std::chrono::ceil<std::chrono::seconds>(wait).count());
  }
  return tl::unexpected(std::move(refusal));
}

Answer<Standing> Gate::standing(const Account& account) {
  US_ASSIGN(const auto application, applications_.find(account.id));
  const UtcTime now = clock_.now();
  if (now >= config_.window.end(config_.calendar)) return Standing::kEnded;
  if (!application) return Standing::kNoApplication;
  if (application->state == ApplicationState::kPending) return Standing::kPending;
  if (application->state == ApplicationState::kDeclined) return Standing::kDeclined;
  return now < config_.window.begin(config_.calendar) ? Standing::kApprovedEarly
                                                      : Standing::kApproved;
}

std::string Gate::standing_text(Standing standing) const {
  const UtcTime begin = config_.window.begin(config_.calendar);
  const UtcTime end = config_.window.end(config_.calendar);
  switch (standing) {
    case Standing::kNoApplication:
      return "The account has not applied for the trial.";
    case Standing::kPending:
      return "The application waits for an answer.";
    case Standing::kDeclined:
      return "The application was declined.";
    case Standing::kApprovedEarly:
      return fmt::format("The application was approved; the trial begins at {}.",
                         config_.calendar.local_text(begin));
    case Standing::kApproved:
      return fmt::format("The application was approved; the trial ends at {}.",
                         config_.calendar.local_text(end));
    case Standing::kEnded:
      return fmt::format("The trial ended at {}.", config_.calendar.local_text(end));
  }
  return "";
}

}  // namespace ultraspeed::access
