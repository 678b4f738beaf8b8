// What clients ask of stored responses: GET and DELETE /v1/responses/{id}, GET
// /v1/responses/{id}/input_items.
#pragma once

#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/response_store.h"

namespace ultraspeed::server {

inline constexpr std::string_view kResponsesPath = "/v1/responses";

// Bodies of answers. Errors: 404 for an id that is not stored, 400 for a malformed query.
ApiResult<std::string> read_response(ResponseStore& store, const std::string& id,
                                     std::string_view target);
ApiResult<std::string> delete_response(ResponseStore& store, const std::string& id);
// Pages, as the query in the target wants them: limit (1 to 100, or else 20), order ("desc", or
// "asc"), after (the id of an item).
ApiResult<std::string> list_input_items(ResponseStore& store, const std::string& id,
                                        std::string_view target);

}  // namespace ultraspeed::server
