#include "server/chat_turn.h"

#include <utility>

namespace ultraspeed::server {

std::vector<ChatEvent> ChatTurn::finish(bool was_cut_off) {
  std::vector<ChatEvent> events = take(parser_.finish(was_cut_off));
  was_call_cut_off_ = was_cut_off && !events.empty() && !events.back().is_complete;
  return events;
}

std::vector<ChatEvent> ChatTurn::take(std::vector<ChatEvent> events) {
  for (const ChatEvent& event : events) {
    switch (event.kind) {
      case ChatEvent::Kind::kReasoning:
        add_text(ChatBlock::Kind::kReasoning, event.text);
        break;
      case ChatEvent::Kind::kContent:
        add_text(ChatBlock::Kind::kContent, event.text);
        break;
      case ChatEvent::Kind::kCallBegin:
        blocks_.push_back({ChatBlock::Kind::kCall, {}, event.id, event.text, {}});
        break;
      case ChatEvent::Kind::kCallArguments:
        blocks_.back().arguments += event.text;
        break;
      case ChatEvent::Kind::kCallEnd:
        end_call(event);
        break;
    }
  }
  return events;
}

void ChatTurn::add_text(ChatBlock::Kind kind, std::string_view text) {
  if (blocks_.empty() || blocks_.back().kind != kind) blocks_.push_back({kind, {}, {}, {}, {}});
  blocks_.back().text += text;
}

void ChatTurn::end_call(const ChatEvent& event) {
  if (!event.is_complete) {
    blocks_.pop_back();
    add_text(ChatBlock::Kind::kContent, event.text);
    return;
  }
  const ChatBlock& call = blocks_.back();
  const bool is_closed = event.text.ends_with(kToolCallClose);
  if (memory_ != nullptr && is_closed) {
    memory_->remember({call.id, call.name, call.arguments, event.text});
  }
}

}  // namespace ultraspeed::server
