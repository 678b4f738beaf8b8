// The grammar of tool calls in the syntax that the model was trained on, for answers that must call
// a tool and for those that may instead of keeping to a response_format.
#pragma once

#include <optional>

#include "base/result.h"
#include "grammar/grammar_builder.h"
#include "server/grammar_request.h"

namespace ultraspeed::server {

// One call after the other, or one alone, as where the syntax has no others. Parameters come in the
// schema's order, and required ones cannot be left out. Where types_only, of a tool's schema the
// names and types of its parameters are kept to and nothing else. Errors: those of json_schema.h.
// REQUIRES: calls.syntax is not kNone, and tools as check_tool() leaves them.
Result<grammar::ExprId> add_calls(const CallChoice& calls, bool types_only,
                                  grammar::GrammarBuilder* builder);

// An answer in the harmony format, from behind "<|start|>assistant": any analysis, then the text in
// the final message or, if they are given, a call.
grammar::ExprId add_channels(grammar::ExprId text, std::optional<grammar::ExprId> calls,
                             grammar::GrammarBuilder* builder);

}  // namespace ultraspeed::server
