// A restricted reader of Python pickles: a dict of names, numbers and tensors, as torch.save writes
// it (protocol 2). A pickle is a program for a stack machine that can name any function; here every
// opcode, function and storage that such a dict does not need is refused by name. Internal to
// model/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace ultraspeed::model {

// A contiguous BF16 tensor whose elements are the archive's entry data/KEY.
struct PickledTensor {
  std::string key;
  uint64_t offset = 0;  // in elements
  std::vector<uint64_t> shape;
};

using PickledDict = std::map<std::string, std::variant<int64_t, PickledTensor>, std::less<>>;

// `file` is for messages. Errors: kInvalidData for a pickle that is cut off or makes no sense,
// kUnsupported for what the restriction refuses.
Result<PickledDict> read_tensor_pickle(std::string_view file, std::span<const std::byte> pickle);

}  // namespace ultraspeed::model
