// Values: checked access, hashing with Python's key equality, ordered dictionaries, JSON import.
#include "text/jinja_value.h"

#include <cmath>
#include <functional>
#include <limits>

namespace ultraspeed::text::jinja {

Value Value::boolean(bool value) {
  Value out(Type::kBool);
  out.boolean_ = value;
  return out;
}

Value Value::integer(Integer value) {
  Value out(Type::kInt);
  out.integer_ = value;
  return out;
}

Value Value::number(double value) {
  Value out(Type::kFloat);
  out.number_ = value;
  return out;
}

Value Value::function(FunctionId id) {
  Value out(Type::kFunction);
  out.function_ = id;
  return out;
}

Value Value::marked(bool from_input) const {
  Value out = *this;
  out.from_input_ = from_input;
  return out;
}

bool Value::as_bool() const {
  US_CHECK(is(Type::kBool));
  return boolean_;
}

Integer Value::as_integer() const {
  US_CHECK(is_integral());
  return is(Type::kBool) ? Integer{boolean_} : integer_;
}

double Value::as_number() const {
  return is(Type::kFloat) ? number_ : static_cast<double>(as_integer());
}

const Text& Value::text() const {
  US_CHECK(is_string());
  return *static_cast<const Text*>(object_);
}

Sequence& Value::items() const {
  US_CHECK(is_sequence());
  return *static_cast<Sequence*>(const_cast<void*>(object_));
}

Dict& Value::dict() const {
  US_CHECK(is(Type::kDict) || is(Type::kNamespace));
  return *static_cast<Dict*>(const_cast<void*>(object_));
}

Loop& Value::loop() const {
  US_CHECK(is(Type::kLoop));
  return *static_cast<Loop*>(const_cast<void*>(object_));
}

const Macro& Value::macro() const {
  US_CHECK(is(Type::kMacro));
  return *static_cast<const Macro*>(object_);
}

const Method& Value::method() const {
  US_CHECK(is(Type::kMethod));
  return *static_cast<const Method*>(object_);
}

FunctionId Value::function() const {
  US_CHECK(is(Type::kFunction));
  return function_;
}

const Text* Value::undefined_hint() const {
  US_CHECK(is_undefined());
  return static_cast<const Text*>(object_);
}

bool Value::is_same(const Value& other) const {
  if (type_ != other.type_) return false;
  switch (type_) {
    case Type::kUndefined:
      return false;
    case Type::kNone:
      return true;
    case Type::kBool:
      return boolean_ == other.boolean_;
    case Type::kInt:
      return integer_ == other.integer_;
    case Type::kFloat:
      return number_ == other.number_;
    case Type::kString:
      return bytes() == other.bytes();
    case Type::kFunction:
      return function_ == other.function_;
    default:
      return object_ == other.object_;
  }
}

size_t ValueHash::operator()(const Value& value) const {
  if (value.is_string()) return std::hash<std::string_view>{}(value.bytes());
  if (value.is_number()) return std::hash<double>{}(value.as_number());
  if (!value.is(Type::kTuple)) return static_cast<size_t>(value.type());
  size_t hash = 0;
  for (const Value& element : value.items().values) hash = hash * 31 + (*this)(element);
  return hash;
}

bool KeyEqual::operator()(const Value& a, const Value& b) const {
  if (a.is_integral() && b.is_integral()) return a.as_integer() == b.as_integer();
  if (a.is_number() && b.is_number()) return a.as_number() == b.as_number();
  if (!a.is(Type::kTuple) || !b.is(Type::kTuple)) return a.is_same(b);
  const std::vector<Value>& left = a.items().values;
  const std::vector<Value>& right = b.items().values;
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), *this);
}

// Tuples of tuples are refused, which bounds the recursion of hashing; nothing in chat needs them.
bool Dict::hashable(const Value& key) {
  const auto is_scalar = [](const Value& value) {
    return value.is_string() || value.is_number() || value.is_none();
  };
  if (!key.is(Type::kTuple)) return is_scalar(key);
  const std::vector<Value>& elements = key.items().values;
  return std::all_of(elements.begin(), elements.end(), is_scalar);
}

const Value* Dict::find(const Value& key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const Text text(key, false);
  return find(Value::string(&text));
}

void Dict::set(const Value& key, const Value& value) {
  const auto [place, inserted] = index_.try_emplace(key, entries_.size());
  if (inserted) {
    entries_.emplace_back(key, value);
  } else {
    entries_[place->second].second = value;
  }
}

namespace {

Result<Value> from_json_array(Heap& heap, const nlohmann::ordered_json& json, bool from_input) {
  std::vector<Value> values;
  if (!heap.spend_bytes(json.size() * sizeof(Value))) {
    return tl::unexpected(heap.exhausted_error());
  }
  values.reserve(json.size());
  for (const auto& element : json) {
    US_ASSIGN(Value value, from_json(heap, element, from_input));
    values.push_back(value);
  }
  return heap.list(std::move(values)).marked(from_input);
}

Result<Value> from_json_string(Heap& heap, const std::string& bytes, bool from_input) {
  if (!is_valid_utf8(bytes)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "template input: a string of {} bytes is not valid UTF-8", bytes.size());
  }
  return heap.string(bytes, from_input);
}

Result<Value> from_json_object(Heap& heap, const nlohmann::ordered_json& json, bool from_input) {
  Dict* dict = heap.new_dict();
  for (const auto& [name, element] : json.items()) {
    if (!heap.spend_bytes(4 * sizeof(Value))) return tl::unexpected(heap.exhausted_error());
    US_ASSIGN(const Value key, from_json_string(heap, name, from_input));
    US_ASSIGN(const Value value, from_json(heap, element, from_input));
    dict->set(key, value);
  }
  return Value::dict(dict).marked(from_input);
}

}  // namespace

Result<Value> from_json(Heap& heap, const nlohmann::ordered_json& json, bool from_input) {
  const Heap::Depth depth(heap);
  if (!heap.spend_steps(1)) return tl::unexpected(heap.exhausted_error());
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null:
      return Value::none().marked(from_input);
    case nlohmann::ordered_json::value_t::boolean:
      return Value::boolean(json.get<bool>()).marked(from_input);
    case nlohmann::ordered_json::value_t::number_integer:
      return Value::integer(json.get<int64_t>()).marked(from_input);
    case nlohmann::ordered_json::value_t::number_unsigned:
      return Value::integer(json.get<uint64_t>()).marked(from_input);
    case nlohmann::ordered_json::value_t::number_float:
      return Value::number(json.get<double>()).marked(from_input);
    case nlohmann::ordered_json::value_t::string:
      return from_json_string(heap, json.get_ref<const std::string&>(), from_input);
    case nlohmann::ordered_json::value_t::array:
      return from_json_array(heap, json, from_input);
    case nlohmann::ordered_json::value_t::object:
      return from_json_object(heap, json, from_input);
    default:
      return make_error(ErrorCode::kInvalidArgument,
                        "template input: a binary JSON value cannot be rendered");
  }
}

std::string_view type_name(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kRange:
      return "range";
    case Type::kIterator:
      return "generator";
    case Type::kView:
      return "dict view";
    case Type::kDict:
      return "dict";
    case Type::kNamespace:
      return "Namespace";
    case Type::kLoop:
      return "LoopContext";
    case Type::kMacro:
      return "Macro";
    case Type::kFunction:
    case Type::kMethod:
      return "function";
  }
  return "unknown";
}

}  // namespace ultraspeed::text::jinja
