// The service's rules (access/) for requests as they come over HTTP: who asks, and with what.
#pragma once

#include <string_view>

#include "access/service.h"
#include "net/http_server.h"
#include "server/api_error.h"
#include "server/routes.h"

namespace ultraspeed::server {

inline constexpr std::string_view kSessionCookie = "us_session";

access::RouteClass class_of(Route route);

// The refusal in the API's form. Its log_detail is logged.
ApiError from_refusal(const access::Refusal& refusal);

// The session's token in its cookie; empty: none.
std::string_view presented_session(const net::HttpRequest& request);

// Who asks, if they may. Errors: those of access::Gate::decide().
ApiResult<access::Identity> admit(access::Service& service, const net::HttpRequest& request,
                                  access::RouteClass route);
// Whether a key that was admitted may generate on that tier.
ApiResult<access::Identity> admit_to_tier(access::Service& service, std::string_view key,
                                          access::Tier tier);

}  // namespace ultraspeed::server
