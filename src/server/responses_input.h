// What a Responses request says to the model: the conversation that it continues and its own items,
// in the form in which they are stored, and as the messages of a chat.
#pragma once

#include <string>
#include <vector>

#include "server/json_fields.h"
#include "server/response_store.h"

namespace ultraspeed::server {

struct ResponsesInput {
  Json messages;  // instructions, the conversation that goes on, the input
  std::string previous_id;
  std::vector<StoredItem> items;  // of the input, to be stored
};

// instructions, previous_response_id and input of a request that came on the connection, if any.
// is_kept: the items are wanted. Errors: 400 with the item's place.
ApiResult<ResponsesInput> read_responses_input(const Fields& fields, ResponseStore& store,
                                               ConnectionId connection, bool is_kept);

}  // namespace ultraspeed::server
