#include "server/responses_items.h"

#include <fmt/format.h>

#include <iterator>

#include "server/conversation_reader.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

std::string_view type_of_item(ItemKind kind) {
  switch (kind) {
    case ItemKind::kReasoning:
      return "reasoning";
    case ItemKind::kMessage:
      return "message";
    case ItemKind::kFunctionCall:
      return "function_call";
    case ItemKind::kCustomCall:
      return "custom_tool_call";
  }
  return {};
}

void append_string_member(std::string& out, std::string_view name, std::string_view text) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":)", name);
  append_json_string(out, text);
}

}  // namespace

std::string_view item_id_prefix(ItemKind kind) {
  switch (kind) {
    case ItemKind::kReasoning:
      return "rs_";
    case ItemKind::kMessage:
      return "msg_";
    case ItemKind::kFunctionCall:
      return "fc_";
    case ItemKind::kCustomCall:
      return "ctc_";
  }
  return {};
}

std::string custom_input(const std::string& arguments) {
  const auto json = parse_json(arguments);
  if (json && json->is_object()) {
    const auto input = json->find(kCustomInput);
    if (input != json->end() && input->is_string()) return input->get<std::string>();
  }
  return arguments;
}

void ItemWriter::append_begin(std::string& out, const OutputItem& item) {
  fmt::format_to(std::back_inserter(out), R"({{"id":"{}","type":"{}","status":"{}")", item.id,
                 type_of_item(item.kind), item.status);
  if (item.kind == ItemKind::kMessage) out += R"(,"role":"assistant")";
  if (item.kind == ItemKind::kReasoning) out += R"(,"summary":[])";
}

void ItemWriter::append_call(std::string& out, const OutputItem& item, std::string_view arguments) {
  append_string_member(out, "call_id", item.call_id);
  append_string_member(out, "name", item.tool.name);
  if (!item.tool.name_space.empty()) append_string_member(out, "namespace", item.tool.name_space);
  append_string_member(out, item.tool.is_custom ? "input" : "arguments", arguments);
}

void ItemWriter::append_item(std::string& out, const OutputItem& item) const {
  append_begin(out, item);
  if (item.kind == ItemKind::kCustomCall) {
    append_call(out, item, custom_input(item.arguments));
  } else if (item.kind == ItemKind::kFunctionCall) {
    append_call(out, item, item.arguments);
  } else {
    out += R"(,"content":[)";
    append_part(out, item.kind, item.text, item.tokens);
    out += ']';
    if (item.kind == ItemKind::kReasoning && seals_reasoning_) {
      append_string_member(out, "encrypted_content",
                           fmt::format("{}{}", kSealedReasoning, item.text));
    }
  }
  out += '}';
}

void ItemWriter::append_empty_item(std::string& out, const OutputItem& item) const {
  append_begin(out, item);
  if (item.is_call()) {
    append_call(out, item, {});
  } else {
    out += R"(,"content":[])";
  }
  out += '}';
}

void ItemWriter::append_part(std::string& out, ItemKind kind, std::string_view text,
                             std::span<const engine::Token> tokens) const {
  if (kind == ItemKind::kReasoning) {
    out += R"({"type":"reasoning_text")";
  } else {
    out += R"({"type":"output_text","annotations":[],"logprobs":)";
    append_logprobs(out, tokens);
  }
  append_string_member(out, "text", text);
  out += '}';
}

void ItemWriter::append_logprobs(std::string& out, std::span<const engine::Token> tokens) const {
  append_token_logprobs(out, tokenizer_, tokens);
}

}  // namespace ultraspeed::server
