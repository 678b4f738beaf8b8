// The answer to a request of any of the APIs, before its first token.
#pragma once

#include <memory>
#include <string>

#include "server/answer.h"
#include "server/call_memory.h"
#include "server/prepare.h"
#include "server/response_store.h"
#include "server/server.h"

namespace ultraspeed::server {

// What answers leave for requests to come.
struct AnswerMemory {
  CallMemory* calls;
  ResponseStore* responses;  // of the client
};

// Takes of `prepared` what it needs. REQUIRES: tokenizer and memory outlive the answer.
std::unique_ptr<Answer> make_answer(PreparedGeneration& prepared, const ServedModel& model,
                                    std::string system_fingerprint, std::string request_id,
                                    const AnswerMemory& memory);

}  // namespace ultraspeed::server
