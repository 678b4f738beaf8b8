// The opcodes are those of Python's pickletools.py. Values live in one list and refer to each other
// by index, so that a memo that is read a thousand times costs a thousand numbers and no copy.
#include "model/tensor_pickle.h"

#include <optional>

#include "model/byte_reader.h"
#include "model/json_reader.h"

namespace ultraspeed::model {
namespace {

constexpr size_t kMaxPickleBytes = 1 << 16;  // torch.save's pickle of one tensor has about 300
constexpr size_t kMaxTextBytes = 256;
constexpr size_t kRebuildArguments = 6;
constexpr std::string_view kRebuild = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kStorageType = "torch BFloat16Storage";
constexpr std::string_view kHooksType = "collections OrderedDict";

using Index = uint32_t;

struct Value {
  enum class Kind { kMark, kInt, kBool, kText, kTuple, kGlobal, kStorage, kHooks, kDict, kTensor };
  Kind kind = Kind::kMark;
  int64_t number = 0;
  std::string text;          // of kText and kGlobal; a kStorage's key
  std::vector<Index> items;  // of kTuple; a kDict's keys and values in turn; a kTensor's arguments
};
using Kind = Value::Kind;

class Unpickler {
 public:
  Unpickler(std::string_view file, std::span<const std::byte> pickle)
      : file_(file), pickle_(pickle) {}

  Result<PickledDict> run() {
    if (pickle_.size() > kMaxPickleBytes) {
      return make_error(ErrorCode::kUnsupported, "{}: a pickle of {} bytes, expected at most {}",
                        file_, pickle_.size(), kMaxPickleBytes);
    }
    while (!is_done_) {
      opcode_at_ = at_;
      US_ASSIGN(const auto opcode, take<uint8_t>());
      US_TRY(execute(static_cast<char>(opcode)));
    }
    if (stack_.size() != 1 || top().kind != Kind::kDict) return fail("does not end with one dict");
    return to_dict(top());
  }

 private:
  Status execute(char opcode) {
    switch (opcode) {
      case '\x80':  // PROTO
        return protocol();
      case '.':  // STOP
        is_done_ = true;
        return {};
      case '(':  // MARK
        return push({Kind::kMark, 0, {}, {}});
      case '}':  // EMPTY_DICT
        return push({Kind::kDict, 0, {}, {}});
      case ')':  // EMPTY_TUPLE
        return push({Kind::kTuple, 0, {}, {}});
      case 't':  // TUPLE
        return tuple_to_mark();
      case '\x85':  // TUPLE1
      case '\x86':  // TUPLE2
      case '\x87':  // TUPLE3
        return tuple_of(static_cast<size_t>(static_cast<uint8_t>(opcode) - 0x84));
      case 's':  // SETITEM
        return set_items(2);
      case 'u':  // SETITEMS
        return set_items_to_mark();
      case 'c':  // GLOBAL
        return global();
      case 'Q':  // BINPERSID
        return storage();
      case 'R':  // REDUCE
        return reduce();
      default:
        return execute_scalar(opcode);
    }
  }

  Status execute_scalar(char opcode) {
    switch (opcode) {
      case 'J':  // BININT
        return integer<int32_t>();
      case 'K':  // BININT1
        return integer<uint8_t>();
      case 'M':  // BININT2
        return integer<uint16_t>();
      case '\x88':  // NEWTRUE
      case '\x89':  // NEWFALSE
        return push({Kind::kBool, opcode == '\x88' ? 1 : 0, {}, {}});
      case 'X':  // BINUNICODE
        return text();
      case 'q':  // BINPUT
        return put(take<uint8_t>());
      case 'r':  // LONG_BINPUT
        return put(take<uint32_t>());
      case 'h':  // BINGET
        return get(take<uint8_t>());
      case 'j':  // LONG_BINGET
        return get(take<uint32_t>());
      default:
        return make_error(ErrorCode::kUnsupported,
                          "{}: byte {}: pickle opcode 0x{:02x} is refused; expected a dict of "
                          "numbers and BF16 tensors as torch.save writes it",
                          file_, opcode_at_, static_cast<uint8_t>(opcode));
    }
  }

  Status protocol() {
    US_ASSIGN(const auto version, take<uint8_t>());
    if (version == 2) return {};
    return make_error(ErrorCode::kUnsupported, "{}: pickle protocol {}, expected 2", file_,
                      version);
  }

  template <class T>
  Status integer() {
    US_ASSIGN(const auto value, take<T>());
    return push({Kind::kInt, value, {}, {}});
  }

  Status text() {
    US_ASSIGN(const auto size, take<uint32_t>());
    if (size > kMaxTextBytes) return fail("has a text of more than 256 bytes");
    if (size > pickle_.size() - at_) return fail("ends inside a text");
    std::string value(text_of(pickle_.subspan(at_, size)));
    at_ += size;
    return push({Kind::kText, 0, std::move(value), {}});
  }

  Status put(const Result<uint32_t>& key) {
    if (!key) return tl::unexpected(key.error());
    if (stack_.empty()) return fail("stores from an empty stack");
    memo_[*key] = stack_.back();
    return {};
  }

  Status get(const Result<uint32_t>& key) {
    if (!key) return tl::unexpected(key.error());
    const auto found = memo_.find(*key);
    if (found == memo_.end()) return fail("reads a memo that was not stored");
    stack_.push_back(found->second);
    return {};
  }

  Result<std::string_view> line() {
    const std::string_view rest = text_of(pickle_).substr(at_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) return fail("ends inside a global's name");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  Status global() {
    US_ASSIGN(const std::string_view module, line());
    US_ASSIGN(const std::string_view function, line());
    std::string name = fmt::format("{} {}", module, function);
    if (name == kRebuild || name == kStorageType || name == kHooksType) {
      return push({Kind::kGlobal, 0, std::move(name), {}});
    }
    return make_error(ErrorCode::kUnsupported,
                      "{}: byte {}: the pickle's GLOBAL '{}' is refused; expected '{}', '{}' or "
                      "'{}'",
                      file_, opcode_at_, printable(name), kRebuild, kStorageType, kHooksType);
  }

  // ('storage', type, key, device, number of elements) names the archive's entry data/KEY.
  Status storage() {
    US_ASSIGN(const Index id, pop());
    const Value& tuple = values_[id];
    const bool is_storage = tuple.kind == Kind::kTuple && tuple.items.size() == 5 &&
                            values_[tuple.items[0]].text == "storage" &&
                            is_global(tuple.items[1], kStorageType) &&
                            values_[tuple.items[2]].kind == Kind::kText;
    if (!is_storage) return fail("has a BINPERSID that names no BF16 storage");
    return push({Kind::kStorage, 0, values_[tuple.items[2]].text, {}});
  }

  Status reduce() {
    US_ASSIGN(const Index arguments, pop());
    US_ASSIGN(const Index function, pop());
    if (values_[arguments].kind != Kind::kTuple) return fail("has a REDUCE without arguments");
    if (is_global(function, kHooksType) && values_[arguments].items.empty()) {
      return push({Kind::kHooks, 0, {}, {}});
    }
    if (!is_global(function, kRebuild) || values_[arguments].items.size() != kRebuildArguments) {
      return fail("has a REDUCE that rebuilds no tensor");
    }
    return push({Kind::kTensor, 0, {}, values_[arguments].items});
  }

  Status tuple_of(size_t count) {
    if (count > stack_.size()) return fail("takes from an empty stack");
    Value tuple{Kind::kTuple, 0, {}, {}};
    tuple.items.assign(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return push(std::move(tuple));
  }

  // Values above the topmost mark.
  std::optional<size_t> count_to_mark() const {
    for (size_t count = 0; count < stack_.size(); ++count) {
      if (values_[stack_[stack_.size() - 1 - count]].kind == Kind::kMark) return count;
    }
    return std::nullopt;
  }

  Status tuple_to_mark() {
    const auto count = count_to_mark();
    if (!count) return fail("has a TUPLE without a MARK");
    US_TRY(tuple_of(*count));
    stack_.erase(stack_.end() - 2);
    return {};
  }

  Status set_items_to_mark() {
    const auto count = count_to_mark();
    if (!count) return fail("has a SETITEMS without a MARK");
    stack_.erase(stack_.end() - static_cast<std::ptrdiff_t>(*count) - 1);
    return set_items(*count);
  }

  Status set_items(size_t count) {
    const bool is_valid = count % 2 == 0 && count < stack_.size() &&
                          values_[stack_[stack_.size() - 1 - count]].kind == Kind::kDict;
    if (!is_valid) return fail("sets items of what is no dict");
    std::vector<Index>& items = values_[stack_[stack_.size() - 1 - count]].items;
    items.insert(items.end(), stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return {};
  }

  Result<PickledDict> to_dict(const Value& value) const {
    PickledDict dict;
    for (size_t i = 0; i < value.items.size(); i += 2) {
      const Value& key = values_[value.items[i]];
      const Value& item = values_[value.items[i + 1]];
      if (key.kind != Kind::kText) return fail("has a key that is no text");
      if (item.kind == Kind::kInt) {
        dict[key.text] = item.number;
      } else if (item.kind == Kind::kTensor) {
        US_ASSIGN(dict[key.text], to_tensor(item));
      } else {
        return fail("holds '" + printable(key.text) + "', which is neither number nor tensor");
      }
    }
    return dict;
  }

  // _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)
  Result<PickledTensor> to_tensor(const Value& value) const {
    const auto argument = [&](size_t i) -> const Value& { return values_[value.items[i]]; };
    const bool is_valid = argument(0).kind == Kind::kStorage && argument(1).kind == Kind::kInt &&
                          argument(1).number >= 0 && argument(2).kind == Kind::kTuple &&
                          argument(3).kind == Kind::kTuple;
    if (!is_valid) return fail("rebuilds a tensor from other arguments than expected");
    PickledTensor tensor{argument(0).text, static_cast<uint64_t>(argument(1).number), {}};
    US_ASSIGN(tensor.shape, sizes(argument(2)));
    US_ASSIGN(const std::vector<uint64_t> strides, sizes(argument(3)));
    uint64_t stride = 1;
    for (size_t i = tensor.shape.size(); i-- > 0;) {
      if (i >= strides.size() || strides[i] != stride) return fail("has a tensor with gaps");
      stride *= tensor.shape[i];
    }
    return tensor;
  }

  Result<std::vector<uint64_t>> sizes(const Value& tuple) const {
    if (tuple.items.size() > 2) return fail("has a tensor of more than 2 dimensions");
    std::vector<uint64_t> result;
    for (const Index item : tuple.items) {
      const Value& size = values_[item];
      if (size.kind != Kind::kInt || size.number < 0) return fail("has a size that is no number");
      result.push_back(static_cast<uint64_t>(size.number));
    }
    return result;
  }

  bool is_global(Index index, std::string_view name) const {
    return values_[index].kind == Kind::kGlobal && values_[index].text == name;
  }
  const Value& top() const { return values_[stack_.back()]; }

  Status push(Value value) {
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<Index>(values_.size() - 1));
    return {};
  }

  Result<Index> pop() {
    if (stack_.empty()) return fail("takes from an empty stack");
    const Index index = stack_.back();
    stack_.pop_back();
    return index;
  }

  template <class T>
  Result<T> take() {
    if (sizeof(T) > pickle_.size() - at_) return fail("is cut off");
    at_ += sizeof(T);
    return little_endian<T>(pickle_, at_ - sizeof(T));
  }

  tl::unexpected<Error> fail(const std::string& what) const {
    return make_error(ErrorCode::kInvalidData, "{}: byte {}: the pickle {}", file_, opcode_at_,
                      what);
  }

  std::string_view file_;
  std::span<const std::byte> pickle_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  bool is_done_ = false;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::map<uint32_t, Index> memo_;
};

}  // namespace

Result<PickledDict> read_tensor_pickle(std::string_view file, std::span<const std::byte> pickle) {
  return Unpickler(file, pickle).run();
}

}  // namespace ultraspeed::model
