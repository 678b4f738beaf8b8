// The `loop` variable inside a for statement.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja_arguments.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// loop.index, loop.last, loop.previtem, ...; nothing when there is no such attribute.
std::optional<Value> loop_attribute(Heap& heap, const Value& loop, std::string_view name);

// loop.cycle(...) and loop.changed(...).
Result<Value> loop_cycle(Heap& heap, const Value& loop, const Arguments& arguments);
Result<Value> loop_changed(Heap& heap, const Value& loop, const Arguments& arguments);

}  // namespace ultraspeed::text::jinja
