// The table of methods and their dispatch; dict and list methods. String methods are in
// jinja_methods_string.cc.
#include "text/jinja_methods.h"

#include <algorithm>

#include "text/jinja_loop.h"
#include "text/jinja_methods_string.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

Result<Value> dict_get(Heap& /*heap*/, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"key", "default"}, 1));
  if (!Dict::hashable(bound.value(0))) {
    return make_error(ErrorCode::kInvalidArgument, "unhashable type: '{}'",
                      type_name(bound.value(0)));
  }
  if (const Value* found = self.dict().find(bound.value(0))) return *found;
  return bound.has(1) ? bound.value(1) : Value::none();
}

// dict.items(), keys() and values(): `pick` gives the element of an entry.
template <class Pick>
Result<Value> dict_view(Heap& heap, const Value& self, const Arguments& arguments, Pick pick) {
  US_TRY(BoundArguments::bind(arguments, {}));
  std::vector<Value> values;
  for (const Dict::Entry& entry : self.dict().entries()) {
    values.push_back(pick(entry));
    if (heap.exhausted()) break;
  }
  return heap.sequence(Type::kView, std::move(values)).marked(self.from_input());
}

Result<Value> dict_items(Heap& heap, const Value& self, const Arguments& arguments) {
  return dict_view(heap, self, arguments, [&](const Dict::Entry& entry) {
    return heap.sequence(Type::kTuple, {entry.first, entry.second}).marked(self.from_input());
  });
}

Result<Value> dict_keys(Heap& heap, const Value& self, const Arguments& arguments) {
  return dict_view(heap, self, arguments, [](const Dict::Entry& entry) { return entry.first; });
}

Result<Value> dict_values(Heap& heap, const Value& self, const Arguments& arguments) {
  return dict_view(heap, self, arguments, [](const Dict::Entry& entry) { return entry.second; });
}

Result<Value> list_append(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"object"}, 1));
  if (heap.spend_bytes(sizeof(Value))) self.items().values.push_back(bound.value(0));
  return Value::none();
}

Result<Value> list_count(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"value"}, 1));
  const std::vector<Value>& values = self.items().values;
  const auto count = std::count_if(values.begin(), values.end(), [&](const Value& value) {
    return equal(heap, value, bound.value(0));
  });
  return Value::integer(count);
}

Result<Value> list_index(Heap& heap, const Value& self, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"value"}, 1));
  const std::vector<Value>& values = self.items().values;
  const auto found = std::find_if(values.begin(), values.end(), [&](const Value& value) {
    return equal(heap, value, bound.value(0));
  });
  if (found == values.end()) {
    return make_error(ErrorCode::kInvalidArgument, "the value is not in the list");
  }
  return Value::integer(found - values.begin());
}

using Call = Result<Value> (*)(Heap&, const Value&, const Arguments&);

struct MethodEntry {
  Type type;
  std::string_view name;
  MethodId id;
  Call call;
};

constexpr MethodEntry kMethods[] = {
    {Type::kString, "capitalize", MethodId::kCapitalize, string_capitalize},
    {Type::kString, "count", MethodId::kCount, string_count},
    {Type::kString, "endswith", MethodId::kEndsWith, string_endswith},
    {Type::kString, "find", MethodId::kFind, string_find},
    {Type::kString, "index", MethodId::kIndex, string_index},
    {Type::kString, "join", MethodId::kJoin, string_join},
    {Type::kString, "lower", MethodId::kLower, string_lower},
    {Type::kString, "lstrip", MethodId::kLstrip, string_lstrip},
    {Type::kString, "removeprefix", MethodId::kRemovePrefix, string_removeprefix},
    {Type::kString, "removesuffix", MethodId::kRemoveSuffix, string_removesuffix},
    {Type::kString, "replace", MethodId::kReplace, string_replace},
    {Type::kString, "rfind", MethodId::kRfind, string_rfind},
    {Type::kString, "rsplit", MethodId::kRsplit, string_rsplit},
    {Type::kString, "rstrip", MethodId::kRstrip, string_rstrip},
    {Type::kString, "split", MethodId::kSplit, string_split},
    {Type::kString, "splitlines", MethodId::kSplitLines, string_splitlines},
    {Type::kString, "startswith", MethodId::kStartsWith, string_startswith},
    {Type::kString, "strip", MethodId::kStrip, string_strip},
    {Type::kString, "title", MethodId::kTitle, string_title},
    {Type::kString, "upper", MethodId::kUpper, string_upper},
    {Type::kDict, "get", MethodId::kGet, dict_get},
    {Type::kDict, "items", MethodId::kItems, dict_items},
    {Type::kDict, "keys", MethodId::kKeys, dict_keys},
    {Type::kDict, "values", MethodId::kValues, dict_values},
    {Type::kList, "append", MethodId::kAppend, list_append},
    {Type::kList, "count", MethodId::kListCount, list_count},
    {Type::kList, "index", MethodId::kListIndex, list_index},
    {Type::kTuple, "count", MethodId::kListCount, list_count},
    {Type::kTuple, "index", MethodId::kListIndex, list_index},
    {Type::kLoop, "changed", MethodId::kLoopChanged, loop_changed},
    {Type::kLoop, "cycle", MethodId::kLoopCycle, loop_cycle},
};

// What Python has besides. A template that uses one must not silently get an undefined value.
constexpr std::string_view kUnsupportedOfString[] = {
    "casefold",    "center",  "encode",     "expandtabs", "format",       "format_map", "isalnum",
    "isalpha",     "isascii", "isdecimal",  "isdigit",    "isidentifier", "islower",    "isnumeric",
    "isprintable", "isspace", "istitle",    "isupper",    "ljust",        "maketrans",  "partition",
    "rindex",      "rjust",   "rpartition", "swapcase",   "translate",    "zfill"};
constexpr std::string_view kUnsupportedOfDict[] = {"clear",   "copy",       "fromkeys", "pop",
                                                   "popitem", "setdefault", "update"};
constexpr std::string_view kUnsupportedOfList[] = {"clear", "copy",   "extend",  "insert",
                                                   "pop",   "remove", "reverse", "sort"};

template <size_t kCount>
bool holds(const std::string_view (&names)[kCount], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool is_unsupported(Type type, std::string_view name) {
  return (type == Type::kString && holds(kUnsupportedOfString, name)) ||
         (type == Type::kDict && holds(kUnsupportedOfDict, name)) ||
         (type == Type::kList && holds(kUnsupportedOfList, name));
}

}  // namespace

Result<std::optional<MethodId>> find_method(const Value& value, std::string_view name) {
  for (const MethodEntry& entry : kMethods) {
    if (entry.type == value.type() && entry.name == name) return entry.id;
  }
  if (is_unsupported(value.type(), name)) {
    return make_error(ErrorCode::kUnsupported, "the method '{}.{}' is not supported",
                      type_name(value), name);
  }
  return std::nullopt;
}

std::string_view method_name(MethodId id) {
  const auto* entry = std::find_if(std::begin(kMethods), std::end(kMethods),
                                   [id](const MethodEntry& e) { return e.id == id; });
  return entry->name;
}

Result<Value> call_method(Heap& heap, const Method& method, const Arguments& arguments) {
  const auto* entry = std::find_if(
      std::begin(kMethods), std::end(kMethods),
      [&](const MethodEntry& e) { return e.id == method.id && e.type == method.self.type(); });
  return entry->call(heap, method.self, arguments);
}

}  // namespace ultraspeed::text::jinja
