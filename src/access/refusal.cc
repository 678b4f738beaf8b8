#include "access/refusal.h"

namespace ultraspeed::access {

Refusal::Refusal(Error error) {
  if (error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kNotFound) {
    status = error.code == ErrorCode::kNotFound ? 404 : 400;
    code = error.code == ErrorCode::kNotFound ? "not_found" : "invalid_request";
    message = std::move(error.message);
    return;
  }
  status = 503;
  code = "access_unavailable";
  message = "The service cannot read or write its database right now; try again.";
  retry_after_s = 5;
  log_detail = std::move(error.message);
}

}  // namespace ultraspeed::access
