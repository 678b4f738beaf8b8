// The grammar of tool calls in the syntax that the model was trained on, for answers that must call
// a tool and for those that may instead of keeping to a response_format.
#pragma once

#include "base/result.h"
#include "grammar/grammar_builder.h"
#include "server/grammar_request.h"

namespace ultraspeed::server {

// One call after the other, or one alone. Parameters come in the schema's order, and required ones
// cannot be left out. Where types_only, of a tool's schema the names and types of its parameters
// are kept to and nothing else. Errors: those of json_schema.h.
// REQUIRES: calls.syntax is not kNone, and tools as check_tool() leaves them.
Result<grammar::ExprId> add_calls(const CallChoice& calls, bool types_only,
                                  grammar::GrammarBuilder* builder);

}  // namespace ultraspeed::server
