// The arguments of a call to a filter, test, method or function, and their binding to parameters.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Arguments bound to parameters by place and name. Unbound ones read as undefined; the typed
// getters take a default for them and report a wrong type by the parameter's name.
class BoundArguments {
 public:
  // Errors: too many, unknown, doubled or, among the first `required`, missing arguments.
  static Result<BoundArguments> bind(const Arguments& arguments,
                                     std::initializer_list<std::string_view> parameters,
                                     size_t required = 0);

  bool has(size_t index) const { return given_[index]; }
  // REQUIRES: has(index) or a use for undefined.
  const Value& value(size_t index) const { return values_[index]; }
  bool truth(size_t index, bool absent) const;
  Result<Integer> integer(size_t index, Integer absent) const;
  // A string; REQUIRES has(index).
  Result<const Text*> text(size_t index) const;

 private:
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

}  // namespace ultraspeed::text::jinja
