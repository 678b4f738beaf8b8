// A value in a parsed JSON file together with its path, so that every complaint about it can say
// where it stands: "tokenizer.json: pre_tokenizer.pretokenizers[0].behavior: expected a string,
// ...". A node is a view: the simdjson parser and the file name must outlive it.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::text {

class JsonNode {
 public:
  JsonNode(simdjson::dom::element element, const std::string* file, std::string path = {})
      : element_(element), file_(file), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  simdjson::dom::element element() const { return element_; }

  // The member of this object; an error if this is no object or lacks it.
  Result<JsonNode> member(std::string_view key) const;
  // The same, but nothing if the member is absent or null.
  Result<std::optional<JsonNode>> optional_member(std::string_view key) const;

  // The elements of this array.
  Result<std::vector<JsonNode>> elements() const;

  // The value of this type; an error if it has another one.
  Result<std::string_view> string() const;
  Result<bool> boolean() const;
  Result<int64_t> integer() const;

  // Members with these types; the second form has a value for an absent or null member.
  Result<std::string_view> string_member(std::string_view key) const;
  Result<bool> bool_member(std::string_view key) const;
  Result<bool> bool_member(std::string_view key, bool otherwise) const;

  // "FILE: PATH: COMPLAINT" as an error.
  tl::unexpected<Error> error(ErrorCode code, std::string_view complaint) const;
  // The same for a place below this node ("[3]", ".key").
  tl::unexpected<Error> error_at(std::string_view below, ErrorCode code,
                                 std::string_view complaint) const;

 private:
  tl::unexpected<Error> type_error(std::string_view expected) const;

  simdjson::dom::element element_;
  const std::string* file_;
  std::string path_;  // empty for the root
};

}  // namespace ultraspeed::text
