// The items that make up the output of a response, and their JSON.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/responses_tools.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

enum class ItemKind { kReasoning, kMessage, kFunctionCall, kCustomCall };

struct OutputItem {
  ItemKind kind = ItemKind::kMessage;
  std::string id = {};
  std::string_view status = "in_progress";
  std::string text = {};                   // kReasoning, kMessage
  std::vector<engine::Token> tokens = {};  // kMessage: for logprobs
  std::string call_id = {};                // of calls
  ResponsesTool tool = {};                 // of calls
  std::string arguments = {};              // of calls: JSON text
  bool is_call() const { return kind == ItemKind::kFunctionCall || kind == ItemKind::kCustomCall; }
};

// "msg", "fc", ...: what the ids of such items begin with.
std::string_view item_id_prefix(ItemKind kind);

// What the model gave a custom tool: the one string of its arguments.
std::string custom_input(const std::string& arguments);

class ItemWriter {
 public:
  // seals_reasoning: with encrypted_content. REQUIRES: the tokenizer outlives it.
  ItemWriter(const text::Tokenizer& tokenizer, bool seals_reasoning)
      : tokenizer_(tokenizer), seals_reasoning_(seals_reasoning) {}

  void append_item(std::string& out, const OutputItem& item) const;
  // The item when nothing of it has come yet.
  void append_empty_item(std::string& out, const OutputItem& item) const;
  // {"type":"output_text",...} or {"type":"reasoning_text",...}
  void append_part(std::string& out, ItemKind kind, std::string_view text,
                   std::span<const engine::Token> tokens) const;
  void append_logprobs(std::string& out, std::span<const engine::Token> tokens) const;

 private:
  static void append_begin(std::string& out, const OutputItem& item);
  static void append_call(std::string& out, const OutputItem& item, std::string_view arguments);

  const text::Tokenizer& tokenizer_;
  const bool seals_reasoning_;
};

}  // namespace ultraspeed::server
