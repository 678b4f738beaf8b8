// One function for each member of the file; the pipeline members are in tokenizer_pipeline.cc.
#include "text/tokenizer_json.h"

#include <simdjson.h>

#include "text/byte_level.h"
#include "text/json_node.h"
#include "text/tokenizer_pipeline.h"
#include "text/utf8.h"

namespace ultraspeed::text {
namespace {

constexpr std::string_view kVersion = "1.0";
constexpr std::string_view kModelType = "BPE";

// The member must be absent, null, or have no effect (false, 0 or "").
Status require_unused(const JsonNode& node, std::string_view key) {
  US_ASSIGN(const std::optional<JsonNode> member, node.optional_member(key));
  if (!member) return {};
  const simdjson::dom::element value = member->element();
  const bool is_unused = (value.is_bool() && !value.get_bool().value_unsafe()) ||
                         (value.is_string() && value.get_string().value_unsafe().empty()) ||
                         (value.is_number() && value.get_double().value_unsafe() == 0.0);
  if (is_unused) return {};
  return member->error(ErrorCode::kUnsupported, "not supported; expected null");
}

bool is_valid_id(int64_t id) {
  return id >= 0 && id < kMaxTokens;
}
std::string expected_id() {
  return fmt::format("expected an id from 0 to {}", kMaxTokens - 1);
}

Status parse_vocab(const JsonNode& model, TokenizerSpec& spec) {
  US_ASSIGN(const JsonNode node, model.member("vocab"));
  simdjson::dom::object object;
  if (node.element().get(object) != simdjson::SUCCESS) {
    return node.error(ErrorCode::kInvalidData, "expected an object of tokens and ids");
  }
  std::vector<bool> is_used;
  spec.ids.reserve(object.size());
  for (const simdjson::dom::key_value_pair entry : object) {
    const auto refuse = [&](std::string_view complaint) {
      return node.error_at(fmt::format("[\"{}\"]", entry.key), ErrorCode::kInvalidData, complaint);
    };
    int64_t id = -1;
    if (entry.value.get(id) != simdjson::SUCCESS || !is_valid_id(id)) {
      return refuse(expected_id());
    }
    const auto index = static_cast<size_t>(id);
    if (index >= is_used.size()) is_used.resize(index + 1);
    if (is_used[index]) return refuse(fmt::format("the id {} belongs to another token", id));
    is_used[index] = true;
    if (!spec.ids.emplace(entry.key, static_cast<int32_t>(id)).second) {
      return refuse("the token appears twice");
    }
  }
  return {};
}

// Bytes that occur in no UTF-8 text need no token.
bool occurs_in_utf8(size_t byte) {
  return byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
}

Status find_byte_tokens(const JsonNode& model, TokenizerSpec& spec) {
  for (size_t byte = 0; byte < spec.byte_tokens.size(); ++byte) {
    const char value = static_cast<char>(byte);
    const std::string spelling = byte_level_encode(std::string_view(&value, 1));
    const auto found = spec.ids.find(spelling);
    spec.byte_tokens[byte] = found == spec.ids.end() ? Bpe::kNoToken : found->second;
    if (found == spec.ids.end() && occurs_in_utf8(byte)) {
      return model.error_at(".vocab", ErrorCode::kUnsupported,
                            fmt::format("expected a token for each byte, found none for byte "
                                        "0x{:02X} (\"{}\")",
                                        byte, spelling));
    }
  }
  return {};
}

// The two halves of a rule: "a b" or ["a", "b"].
bool read_merge(simdjson::dom::element rule, std::string_view& left, std::string_view& right) {
  std::string_view line;
  if (rule.get(line) == simdjson::SUCCESS) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return false;
    left = line.substr(0, space);
    right = line.substr(space + 1);
    return right.find(' ') == std::string_view::npos;
  }
  simdjson::dom::array pair;
  return rule.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
         pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS;
}

Status parse_merges(const JsonNode& model, TokenizerSpec& spec) {
  US_ASSIGN(const JsonNode node, model.member("merges"));
  simdjson::dom::array rules;
  if (node.element().get(rules) != simdjson::SUCCESS) {
    return node.error(ErrorCode::kInvalidData, "expected an array of merge rules");
  }
  size_t index = 0;
  std::string key;
  for (const simdjson::dom::element rule : rules) {
    const size_t rule_index = index++;
    std::string_view left, right;
    if (!read_merge(rule, left, right)) {
      return node.error_at(fmt::format("[{}]", rule_index), ErrorCode::kInvalidData,
                           "expected two tokens, as \"a b\" or [\"a\", \"b\"]");
    }
    BpeMerge merge;
    const auto look_up = [&](std::string_view first, std::string_view second, int32_t& id) {
      key.assign(first).append(second);
      const auto found = spec.ids.find(key);
      if (found != spec.ids.end()) id = found->second;
      return found != spec.ids.end();
    };
    if (!look_up(left, "", merge.left) || !look_up(right, "", merge.right) ||
        !look_up(left, right, merge.result)) {
      return node.error_at(fmt::format("[{}]", rule_index), ErrorCode::kInvalidData,
                           fmt::format("the token \"{}\" is not in the vocabulary", key));
    }
    spec.merges.push_back(merge);
  }
  return {};
}

Status parse_model(const JsonNode& root, TokenizerSpec& spec) {
  US_ASSIGN(const JsonNode model, root.member("model"));
  US_ASSIGN(const std::optional<JsonNode> type, model.optional_member("type"));
  if (type) {
    US_ASSIGN(const std::string_view name, type->string());
    if (name != kModelType) {
      return type->error(ErrorCode::kUnsupported,
                         fmt::format("the model \"{}\" is not supported; expected \"BPE\"", name));
    }
  }
  for (const std::string_view key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    US_TRY(require_unused(model, key));
  }
  US_ASSIGN(spec.ignore_merges, model.bool_member("ignore_merges", false));
  US_TRY(parse_vocab(model, spec));
  US_TRY(find_byte_tokens(model, spec));
  return parse_merges(model, spec);
}

Result<AddedToken> parse_added_token(const JsonNode& node) {
  AddedToken token;
  US_ASSIGN(token.content, node.string_member("content"));
  if (token.content.empty()) {
    return node.error_at(".content", ErrorCode::kInvalidData, "expected a string, found \"\"");
  }
  US_ASSIGN(const JsonNode id, node.member("id"));
  US_ASSIGN(const int64_t value, id.integer());
  if (!is_valid_id(value)) return id.error(ErrorCode::kInvalidData, expected_id());
  token.id = static_cast<int32_t>(value);
  US_ASSIGN(token.special, node.bool_member("special", false));
  US_ASSIGN(token.normalized, node.bool_member("normalized", !token.special));
  US_ASSIGN(token.lstrip, node.bool_member("lstrip", false));
  US_ASSIGN(token.rstrip, node.bool_member("rstrip", false));
  US_ASSIGN(token.single_word, node.bool_member("single_word", false));
  return token;
}

// The vocabulary may contain an added token too, under the same id.
Status parse_added_tokens(const JsonNode& root, TokenizerSpec& spec) {
  US_ASSIGN(const std::optional<JsonNode> list, root.optional_member("added_tokens"));
  if (!list) return {};
  US_ASSIGN(const std::vector<JsonNode> nodes, list->elements());
  std::unordered_map<int32_t, std::string> spellings;
  for (const auto& [spelling, id] : spec.ids) spellings.emplace(id, spelling);
  std::unordered_map<int32_t, size_t> seen;
  for (const JsonNode& node : nodes) {
    US_ASSIGN(AddedToken token, parse_added_token(node));
    const auto [known, is_new] = spec.ids.emplace(token.content, token.id);
    const auto [owner, is_new_id] = spellings.emplace(token.id, token.content);
    if (known->second != token.id || owner->second != token.content) {
      return node.error(ErrorCode::kInvalidData,
                        fmt::format("the token \"{}\" with id {} contradicts \"{}\" with id {}",
                                    token.content, token.id, owner->second, known->second));
    }
    if (!seen.emplace(token.id, spec.added_tokens.size()).second) {
      return node.error(ErrorCode::kInvalidData,
                        fmt::format("the added token \"{}\" appears twice", token.content));
    }
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> parse_tokenizer_json(std::string_view json, const std::string& name) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const simdjson::error_code parse_error = parser.parse(json.data(), json.size()).get(document);
  if (parse_error != simdjson::SUCCESS) {
    return make_error(ErrorCode::kInvalidData, "{}: expected a JSON document: {}", name,
                      simdjson::error_message(parse_error));
  }
  const JsonNode root(document, &name);
  US_ASSIGN(const std::optional<JsonNode> version, root.optional_member("version"));
  if (version) {
    US_ASSIGN(const std::string_view number, version->string());
    if (number != kVersion) {
      return version->error(ErrorCode::kUnsupported,
                            fmt::format("version \"{}\", expected \"1.0\"", number));
    }
  }
  TokenizerSpec spec;
  US_TRY(require_unused(root, "truncation"));
  US_TRY(require_unused(root, "padding"));
  US_TRY(parse_model(root, spec));
  US_TRY(parse_added_tokens(root, spec));
  US_TRY(parse_normalizer(root, spec));
  US_TRY(parse_pre_tokenizer(root, spec));
  US_TRY(parse_post_processor(root, spec));
  US_TRY(parse_decoder(root));
  return spec;
}

}  // namespace ultraspeed::text
