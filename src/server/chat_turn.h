// The model's turn of a chat while it comes: the parser's events for a stream, the blocks that they
// amount to for a whole answer, and the calls into the memory. What the chat APIs share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/call_memory.h"
#include "server/chat_parser.h"

namespace ultraspeed::server {

struct ChatBlock {
  enum class Kind { kReasoning, kContent, kCall };
  Kind kind = Kind::kContent;
  std::string text;       // kReasoning, kContent
  std::string id;         // kCall
  std::string name;       // kCall
  std::string arguments;  // kCall: JSON text
};

class ChatTurn {
 public:
  // memory: nullptr, or it outlives this.
  explicit ChatTurn(ChatParser::Options options = {}, CallMemory* memory = nullptr)
      : parser_(std::move(options)), memory_(memory) {}

  std::vector<ChatEvent> push(std::string_view text) { return take(parser_.push(text)); }
  std::vector<ChatEvent> finish(bool was_cut_off);

  bool is_done() const { return parser_.is_done(); }
  bool has_calls() const { return parser_.num_calls() > 0; }
  // finish() found the last call cut off.
  bool was_call_cut_off() const { return was_call_cut_off_; }
  // In order. A call that remained incomplete is content, as it was written.
  const std::vector<ChatBlock>& blocks() const { return blocks_; }

 private:
  std::vector<ChatEvent> take(std::vector<ChatEvent> events);
  void add_text(ChatBlock::Kind kind, std::string_view text);
  void end_call(const ChatEvent& event);

  ChatParser parser_;
  CallMemory* memory_;
  std::vector<ChatBlock> blocks_;
  bool was_call_cut_off_ = false;
};

}  // namespace ultraspeed::server
