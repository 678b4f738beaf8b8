// Global functions.
#include "text/jinja_functions.h"

#include <algorithm>

#include "text/jinja_access.h"
#include "text/jinja_format.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

constexpr std::pair<std::string_view, FunctionId> kFunctions[] = {
    {"dict", FunctionId::kDict},
    {"namespace", FunctionId::kNamespace},
    {"raise_exception", FunctionId::kRaiseException},
    {"range", FunctionId::kRange},
    {"strftime_now", FunctionId::kStrftimeNow}};

// Adds the pairs of a mapping, or of an iterable of pairs.
Status add_pairs(Heap& heap, const Value& source, Dict& out) {
  if (source.is(Type::kDict)) {
    for (const auto& [key, value] : source.dict().entries()) {
      if (!heap.spend_bytes(4 * sizeof(Value))) break;
      out.set(key, value);
    }
    return {};
  }
  US_ASSIGN(const std::vector<Value> items, iterate(heap, source));
  for (const Value& item : items) {
    US_ASSIGN(const std::vector<Value> pair, iterate(heap, item));
    if (pair.size() != 2 || !Dict::hashable(pair[0])) {
      return make_error(ErrorCode::kInvalidArgument,
                        "needs a mapping or pairs of a hashable key and a value");
    }
    if (!heap.spend_bytes(4 * sizeof(Value))) break;
    out.set(pair[0], pair[1]);
  }
  return {};
}

Result<Dict*> new_dict(Heap& heap, const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    return make_error(ErrorCode::kInvalidArgument, "takes at most 1 positional argument, got {}",
                      arguments.positional.size());
  }
  Dict* dict = heap.new_dict();
  for (const Value& source : arguments.positional) US_TRY(add_pairs(heap, source, *dict));
  for (const auto& [name, value] : arguments.named) dict->set(heap.string(name, false), value);
  return dict;
}

Result<Value> call_range(Heap& heap, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound,
            BoundArguments::bind(arguments, {"start", "stop", "step"}, 1));
  US_ASSIGN(const Integer first, bound.integer(0, 0));
  const bool has_begin = bound.has(1);
  US_ASSIGN(const Integer end, bound.integer(1, first));
  US_ASSIGN(const Integer step, bound.integer(2, 1));
  const Integer begin = has_begin ? first : 0;
  if (step == 0) return make_error(ErrorCode::kInvalidArgument, "the step must not be zero");
  constexpr Integer kMaxBound = Integer{1} << 64;
  const auto is_wide = [&](Integer bound_value) {
    return bound_value > kMaxBound || bound_value < -kMaxBound;
  };
  if (is_wide(begin) || is_wide(end) || is_wide(step)) {
    return make_error(ErrorCode::kInvalidArgument, "a bound exceeds 64 bits");
  }
  const Integer span = step > 0 ? end - begin : begin - end;
  const Integer stride = step > 0 ? step : -step;
  const Integer count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > static_cast<Integer>(heap.limits().max_range)) {
    return make_error(ErrorCode::kInvalidArgument, "{} elements exceed the limit of {}", count,
                      heap.limits().max_range);
  }
  std::vector<Value> values;
  for (Integer i = 0; i < count; ++i) values.push_back(Value::integer(begin + i * step));
  heap.spend_steps(values.size());
  return heap.sequence(Type::kRange, std::move(values));
}

Result<Value> call_strftime(Heap& heap, const Arguments& arguments, std::time_t now) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"format"}, 1));
  US_ASSIGN(const Text* format, bound.text(0));
  if (format->empty()) return heap.string("", false);
  std::tm local{};
  localtime_r(&now, &local);
  std::string out(4096, '\0');
  const size_t size = std::strftime(out.data(), out.size(), format->bytes().c_str(), &local);
  out.resize(size);
  if (size == 0 || !is_valid_utf8(out)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the format gives no text, or more than 4095 bytes");
  }
  return heap.string(out, format->has_input());
}

Result<Value> raise(Heap& heap, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"message"}, 1));
  US_ASSIGN(const Text message, to_text(heap, bound.value(0)));
  return make_error(ErrorCode::kInvalidArgument, "{}", message.bytes());
}

Result<Value> dispatch(Heap& heap, FunctionId id, const Arguments& arguments, std::time_t now) {
  switch (id) {
    case FunctionId::kDict: {
      US_ASSIGN(Dict * dict, new_dict(heap, arguments));
      return Value::dict(dict);
    }
    case FunctionId::kNamespace: {
      US_ASSIGN(Dict * dict, new_dict(heap, arguments));
      return Value::namespace_of(dict);
    }
    case FunctionId::kRange:
      return call_range(heap, arguments);
    case FunctionId::kStrftimeNow:
      return call_strftime(heap, arguments, now);
    case FunctionId::kRaiseException:
      break;
  }
  return raise(heap, arguments);
}

}  // namespace

std::optional<FunctionId> find_function(std::string_view name) {
  for (const auto& [function, id] : kFunctions) {
    if (function == name) return id;
  }
  return std::nullopt;
}

std::string_view function_name(FunctionId id) {
  return std::find_if(std::begin(kFunctions), std::end(kFunctions),
                      [id](const auto& function) { return function.second == id; })
      ->first;
}

Result<Value> call_function(Heap& heap, FunctionId id, const Arguments& arguments,
                            std::time_t now) {
  Result<Value> result = dispatch(heap, id, arguments, now);
  if (!result && id != FunctionId::kRaiseException) {
    return make_error(result.error().code, "{}: {}", function_name(id), result.error().message);
  }
  return result;
}

}  // namespace ultraspeed::text::jinja
