// The Heap of one rendering: ownership of its values and the limits' accounting.
#include <algorithm>

#include "text/jinja_scope.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

Heap::Heap(const Limits& limits) : limits_(limits) {}
Heap::~Heap() = default;

bool Heap::spend_steps(uint64_t count) {
  if (exhausted()) return false;
  if (count > limits_.max_steps - steps_) {
    exhaust(Limit::kSteps);
    return false;
  }
  steps_ += count;
  return true;
}

bool Heap::spend_bytes(size_t count) {
  if (exhausted()) return false;
  if (count > limits_.max_heap_bytes - bytes_) {
    exhaust(Limit::kHeapBytes);
    return false;
  }
  bytes_ += count;
  return spend_steps(count / 64);
}

Error Heap::exhausted_error() const {
  const auto error = [](std::string_view what, size_t limit) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("rendering exceeds the limit of {} {}", limit, what)};
  };
  switch (exceeded_) {
    case Limit::kSteps:
      return error("steps", limits_.max_steps);
    case Limit::kHeapBytes:
      return error("bytes of working memory", limits_.max_heap_bytes);
    case Limit::kOutputBytes:
      return error("bytes of output", limits_.max_output_bytes);
    case Limit::kDepth:
      return error("nested evaluations", limits_.max_depth);
    case Limit::kNone:
      break;
  }
  return Error{ErrorCode::kInternal, "no limit of rendering is exceeded"};
}

Value Heap::string(Text text) {
  spend_bytes(text.size_bytes() + sizeof(Text));
  return Value::string(&texts_.emplace_back(std::move(text)));
}

Value Heap::sequence(Type type, std::vector<Value> values) {
  spend_bytes(values.size() * sizeof(Value) + sizeof(Sequence));
  return Value::sequence(type, &sequences_.emplace_back(Sequence{std::move(values)}));
}

Dict* Heap::new_dict() {
  spend_bytes(sizeof(Dict));
  return &dicts_.emplace_back();
}

Loop* Heap::new_loop() {
  spend_bytes(sizeof(Loop));
  return &loops_.emplace_back();
}

Macro* Heap::new_macro() {
  spend_bytes(sizeof(Macro));
  return macros_.emplace_back(std::make_unique<Macro>()).get();
}

Scope* Heap::new_scope(Scope* parent) {
  spend_bytes(sizeof(Scope));
  return scopes_.emplace_back(std::make_unique<Scope>(parent)).get();
}

Value Heap::method(const Value& self, MethodId id) {
  spend_bytes(sizeof(Method));
  return Value::method(&methods_.emplace_back(Method{self, id}));
}

Value Heap::undefined(std::string hint) {
  return Value::undefined(&string(std::move(hint), false).text());
}

bool TextBuilder::admit(size_t size_bytes) {
  if (size_bytes > max_bytes_ - text_.size_bytes()) {
    heap_.exhaust(Limit::kOutputBytes);
    return false;
  }
  return heap_.spend_bytes(size_bytes) && heap_.spend_steps(1);
}

bool TextBuilder::append(std::string_view bytes, bool from_input) {
  if (!admit(bytes.size())) return false;
  text_.append(bytes, from_input);
  return true;
}

bool TextBuilder::append(const Text& text, size_t begin, size_t end) {
  if (!admit(end - begin)) return false;
  text_.append(text, begin, end);
  return true;
}

}  // namespace ultraspeed::text::jinja
