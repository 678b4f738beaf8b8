// Typed access to JSON values; simdjson reports by error code here, it throws nothing.
#include "text/json_node.h"

namespace ultraspeed::text {
namespace {

std::string_view type_name(simdjson::dom::element_type type) {
  switch (type) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
      return "an integer";
    case simdjson::dom::element_type::DOUBLE:
      return "a number with a fraction or exponent";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
  }
  return "an unknown value";
}

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

}  // namespace

Result<JsonNode> JsonNode::member(std::string_view key) const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) return type_error("an object");
  simdjson::dom::element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) {
    return error(ErrorCode::kInvalidData, fmt::format("expected a member \"{}\"", key));
  }
  return JsonNode(value, file_, join_path(path_, key));
}

Result<std::optional<JsonNode>> JsonNode::optional_member(std::string_view key) const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) return type_error("an object");
  simdjson::dom::element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return JsonNode(value, file_, join_path(path_, key));
}

Result<std::vector<JsonNode>> JsonNode::elements() const {
  simdjson::dom::array array;
  if (element_.get(array) != simdjson::SUCCESS) return type_error("an array");
  std::vector<JsonNode> nodes;
  for (const simdjson::dom::element element : array) {
    nodes.emplace_back(element, file_, fmt::format("{}[{}]", path_, nodes.size()));
  }
  return nodes;
}

Result<std::string_view> JsonNode::string() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) return type_error("a string");
  return value;
}

Result<bool> JsonNode::boolean() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) return type_error("a boolean");
  return value;
}

Result<int64_t> JsonNode::integer() const {
  int64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS) return type_error("an integer of 64 bits");
  return value;
}

Result<std::string_view> JsonNode::string_member(std::string_view key) const {
  US_ASSIGN(const JsonNode node, member(key));
  return node.string();
}

Result<bool> JsonNode::bool_member(std::string_view key) const {
  US_ASSIGN(const JsonNode node, member(key));
  return node.boolean();
}

Result<bool> JsonNode::bool_member(std::string_view key, bool otherwise) const {
  US_ASSIGN(const std::optional<JsonNode> node, optional_member(key));
  return node ? node->boolean() : Result<bool>(otherwise);
}

tl::unexpected<Error> JsonNode::error(ErrorCode code, std::string_view complaint) const {
  return error_at({}, code, complaint);
}

tl::unexpected<Error> JsonNode::error_at(std::string_view below, ErrorCode code,
                                         std::string_view complaint) const {
  const std::string path = path_ + std::string(below);
  return make_error(code, "{}: {}: {}", *file_, path.empty() ? "the document" : path, complaint);
}

tl::unexpected<Error> JsonNode::type_error(std::string_view expected) const {
  return error(ErrorCode::kInvalidData,
               fmt::format("expected {}, found {}", expected, type_name(element_.type())));
}

}  // namespace ultraspeed::text
