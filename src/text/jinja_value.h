// The values of the Jinja subset, with Python's types and provenance marks, and the Heap that owns
// everything one rendering creates. A Value is a small handle; strings and containers live in the
// Heap until the rendering ends, so templates may build cyclic structures without leaking.
// The Heap also counts steps, bytes and depth: when a limit is exceeded it becomes exhausted, which
// the evaluator notices at its next node. Operations may therefore return any value once exhausted.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/result.h"
#include "text/jinja_text.h"

namespace ultraspeed::text::jinja {

// Wide enough for every JSON integer; arithmetic beyond it is an error where Python would go on.
__extension__ typedef __int128 Integer;

enum class Type : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kRange,
  kIterator,  // what lazy filters (map, select, ...) and reverse give: iterable once, no length
  kView,      // dict.keys(), values(), items()
  kDict,
  kNamespace,
  kLoop,
  kMacro,
  kFunction,
  kMethod,
};

struct Sequence;
class Dict;
struct Loop;
struct Macro;
struct Method;
enum class FunctionId : uint8_t;

class Value {
 public:
  Value() = default;  // undefined, without a hint
  // `hint` says in an error what was undefined, such as "'x' is undefined".
  static Value undefined(const Text* hint) { return Value(Type::kUndefined, hint); }
  static Value none() { return Value(Type::kNone); }
  static Value boolean(bool value);
  static Value integer(Integer value);
  static Value number(double value);
  static Value string(const Text* text) { return Value(Type::kString, text); }
  static Value sequence(Type type, Sequence* items) { return Value(type, items); }
  static Value dict(Dict* dict) { return Value(Type::kDict, dict); }
  static Value namespace_of(Dict* dict) { return Value(Type::kNamespace, dict); }
  static Value loop(Loop* loop) { return Value(Type::kLoop, loop); }
  static Value macro(const Macro* macro) { return Value(Type::kMacro, macro); }
  static Value method(const Method* method) { return Value(Type::kMethod, method); }
  static Value function(FunctionId id);

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }
  bool is_number() const { return is_integral() || type_ == Type::kFloat; }
  bool is_sequence() const { return type_ >= Type::kList && type_ <= Type::kView; }

  // Whether the scalar or the container itself came from input; strings carry their own marks.
  bool from_input() const { return from_input_; }
  Value marked(bool from_input) const;

  bool as_bool() const;
  Integer as_integer() const;  // of a bool or int
  double as_number() const;    // of a bool, int or float
  const Text& text() const;
  std::string_view bytes() const { return text().bytes(); }
  Sequence& items() const;
  Dict& dict() const;  // of a dict or namespace
  Loop& loop() const;
  const Macro& macro() const;
  const Method& method() const;
  FunctionId function() const;
  const Text* undefined_hint() const;
  // Two handles on the same object or equal scalars: Python's `is`.
  bool is_same(const Value& other) const;

 private:
  explicit Value(Type type) : type_(type) {}
  Value(Type type, const void* object) : type_(type), object_(object) {}

  Type type_ = Type::kUndefined;
  bool from_input_ = false;
  FunctionId function_{};
  union {
    const void* object_ = nullptr;
    bool boolean_;
    double number_;
    Integer integer_;
  };
};

struct Sequence {
  std::vector<Value> values;
  bool consumed = false;  // of a kIterator
};

struct ValueHash {
  size_t operator()(const Value& value) const;
};
struct KeyEqual {
  bool operator()(const Value& a, const Value& b) const;
};

// An insertion-ordered mapping. Keys are hashable(): 1, 1.0 and true are one key, as in Python.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  static bool hashable(const Value& key);

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  // Inserts, or replaces the value and keeps the place. REQUIRES: hashable(key).
  void set(const Value& key, const Value& value);

 private:
  std::vector<Entry> entries_;
  std::unordered_map<Value, size_t, ValueHash, KeyEqual> index_;
};

// The `loop` variable of one running for statement.
struct Loop {
  const Sequence* items = nullptr;
  size_t count = 0;  // of items when the loop began; what the body appends is not looped over
  size_t index0 = 0;
  std::optional<std::vector<Value>> changed;
};

enum class MethodId : uint8_t;
struct Method {
  Value self;
  MethodId id{};
};

struct Limits {
  uint64_t max_steps = 20'000'000;  // evaluated nodes, or 64 bytes or one element of bulk work
  size_t max_heap_bytes = size_t{512} << 20;
  size_t max_output_bytes = size_t{64} << 20;
  uint32_t max_depth = 600;    // nested evaluations, macro calls included
  size_t max_range = 100'000;  // elements of range(), as in Jinja's sandbox
};

enum class Limit : uint8_t { kNone, kSteps, kHeapBytes, kOutputBytes, kDepth };

struct Scope;

class Heap {
 public:
  explicit Heap(const Limits& limits);
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  const Limits& limits() const { return limits_; }
  bool exhausted() const { return exceeded_ != Limit::kNone; }
  void exhaust(Limit limit) { exceeded_ = limit; }
  Error exhausted_error() const;
  // Both return false when (or once) a limit is exceeded: stop the work at hand.
  bool spend_steps(uint64_t count);
  bool spend_bytes(size_t count);

  Value string(Text text);
  Value string(std::string_view bytes, bool from_input) { return string(Text(bytes, from_input)); }
  Value sequence(Type type, std::vector<Value> values);
  Value list(std::vector<Value> values) { return sequence(Type::kList, std::move(values)); }
  Dict* new_dict();
  Loop* new_loop();
  Macro* new_macro();
  Scope* new_scope(Scope* parent);
  Value method(const Value& self, MethodId id);
  Value undefined(std::string hint);

  // Nested work in this rendering, for limits().max_depth.
  class Depth {
   public:
    explicit Depth(Heap& heap) : heap_(heap) {
      if (++heap_.depth_ > heap_.limits_.max_depth) heap_.exhaust(Limit::kDepth);
    }
    ~Depth() { --heap_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    Heap& heap_;
  };

 private:
  Limits limits_;
  uint64_t steps_ = 0;
  size_t bytes_ = 0;
  uint32_t depth_ = 0;
  Limit exceeded_ = Limit::kNone;
  std::deque<Text> texts_;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Loop> loops_;
  std::deque<Method> methods_;
  std::vector<std::unique_ptr<Macro>> macros_;
  std::vector<std::unique_ptr<Scope>> scopes_;
};

// Collects output text and charges it to the heap; drops what comes after exhaustion.
class TextBuilder {
 public:
  explicit TextBuilder(Heap& heap, size_t max_bytes = SIZE_MAX)
      : heap_(heap), max_bytes_(max_bytes) {}

  // Return false when the heap is exhausted: stop the loop at hand.
  bool append(std::string_view bytes, bool from_input);
  bool append(const Text& text) { return append(text, 0, text.size_bytes()); }
  bool append(const Text& text, size_t begin, size_t end);
  const Text& text() const { return text_; }
  Text take() { return std::move(text_); }

 private:
  bool admit(size_t size_bytes);

  Heap& heap_;
  size_t max_bytes_;
  Text text_;
};

// The JSON value as a Python value. Errors: invalid UTF-8, binary values, nesting over the limit.
Result<Value> from_json(Heap& heap, const nlohmann::ordered_json& json, bool from_input);

// Python's name of the type, for messages: "str", "dict", "NoneType", "Undefined", ...
std::string_view type_name(const Value& value);

}  // namespace ultraspeed::text::jinja
