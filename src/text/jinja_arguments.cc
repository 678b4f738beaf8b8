// Binding of arguments to parameters.
#include "text/jinja_arguments.h"

#include <algorithm>

#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

Result<BoundArguments> BoundArguments::bind(const Arguments& arguments,
                                            std::initializer_list<std::string_view> parameters,
                                            size_t required) {
  BoundArguments bound;
  bound.names_ = parameters;
  bound.values_.resize(parameters.size());
  bound.given_.resize(parameters.size());
  if (arguments.positional.size() > parameters.size()) {
    return make_error(ErrorCode::kInvalidArgument, "takes at most {} argument(s), got {}",
                      parameters.size(), arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values_[i] = arguments.positional[i];
    bound.given_[i] = true;
  }
  for (const auto& [name, value] : arguments.named) {
    const auto place = std::find(bound.names_.begin(), bound.names_.end(), name);
    if (place == bound.names_.end()) {
      return make_error(ErrorCode::kInvalidArgument, "takes no argument named '{}'", name);
    }
    const auto index = static_cast<size_t>(place - bound.names_.begin());
    if (bound.given_[index]) {
      return make_error(ErrorCode::kInvalidArgument, "got two values for argument '{}'", name);
    }
    bound.values_[index] = value;
    bound.given_[index] = true;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!bound.given_[i]) {
      return make_error(ErrorCode::kInvalidArgument, "needs the argument '{}'", bound.names_[i]);
    }
  }
  return bound;
}

bool BoundArguments::truth(size_t index, bool absent) const {
  return given_[index] ? is_true(values_[index]) : absent;
}

Result<Integer> BoundArguments::integer(size_t index, Integer absent) const {
  if (!given_[index]) return absent;
  const Value& value = values_[index];
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_integral()) {
    return make_error(ErrorCode::kInvalidArgument, "argument '{}' must be an integer, not {}",
                      names_[index], type_name(value));
  }
  return value.as_integer();
}

Result<const Text*> BoundArguments::text(size_t index) const {
  const Value& value = values_[index];
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_string()) {
    return make_error(ErrorCode::kInvalidArgument, "argument '{}' must be a string, not {}",
                      names_[index], type_name(value));
  }
  return &value.text();
}

}  // namespace ultraspeed::text::jinja
