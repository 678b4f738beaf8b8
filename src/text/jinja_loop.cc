// The `loop` variable's attributes and methods.
#include "text/jinja_loop.h"

#include <algorithm>

#include "text/jinja_methods.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

std::optional<Value> loop_attribute(Heap& heap, const Value& value, std::string_view name) {
  const Loop& loop = value.loop();
  const std::vector<Value>& items = loop.items->values;
  const size_t index = loop.index0;
  const auto number = [](size_t count) { return Value::integer(static_cast<Integer>(count)); };
  if (name == "index") return number(index + 1);
  if (name == "index0") return number(index);
  if (name == "revindex") return number(loop.count - index);
  if (name == "revindex0") return number(loop.count - index - 1);
  if (name == "length") return number(loop.count);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index + 1 == loop.count);
  if (name == "depth") return number(1);
  if (name == "depth0") return number(0);
  if (name == "previtem") {
    return index == 0 ? heap.undefined("there is no previous item") : items[index - 1];
  }
  if (name == "nextitem") {
    return index + 1 == loop.count ? heap.undefined("there is no next item") : items[index + 1];
  }
  if (name == "cycle") return heap.method(value, MethodId::kLoopCycle);
  if (name == "changed") return heap.method(value, MethodId::kLoopChanged);
  return std::nullopt;
}

Result<Value> loop_cycle(Heap& /*heap*/, const Value& loop, const Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "loop.cycle needs positional arguments");
  }
  return arguments.positional[loop.loop().index0 % arguments.positional.size()];
}

Result<Value> loop_changed(Heap& heap, const Value& value, const Arguments& arguments) {
  Loop& loop = value.loop();
  const auto same = [&](const Value& a, const Value& b) { return equal(heap, a, b); };
  if (loop.changed && std::equal(loop.changed->begin(), loop.changed->end(),
                                 arguments.positional.begin(), arguments.positional.end(), same)) {
    return Value::boolean(false);
  }
  heap.spend_bytes(arguments.positional.size() * sizeof(Value));
  loop.changed = arguments.positional;
  return Value::boolean(true);
}

}  // namespace ultraspeed::text::jinja
