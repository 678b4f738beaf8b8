// Answers of /v1/responses: a response object of items, whole or as the events that build it up.
#pragma once

#include <memory>

#include "server/answer.h"
#include "server/responses_request.h"

namespace ultraspeed::server {

// REQUIRES: tokenizer and store outlive the answer.
std::unique_ptr<Answer> make_responses_answer(AnswerHead head, const AnswerOptions& options,
                                              const text::Tokenizer& tokenizer, ChatTurn turn,
                                              ResponsesSettings settings, ResponseStore& store);

}  // namespace ultraspeed::server
