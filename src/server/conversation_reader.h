// The items of a Responses conversation as the messages of a chat: what the model wrote between two
// other items (reasoning, messages, calls) is one message of the assistant.
#pragma once

#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace ultraspeed::server {

// Begins the encrypted_content of this server's reasoning items, which is the reasoning itself: it
// comes back also from clients that keep nothing else of an item.
inline constexpr std::string_view kSealedReasoning = "ultraspeed:";

// What an item without a type is: a message, if it has a role, else a reference.
std::string item_type(const Json& item);

class ConversationReader {
 public:
  // Before all items.
  void add_instructions(const std::string& text) { add_system(text); }
  // Errors: 400 with the item's place. REQUIRES: it is an object.
  ApiStatus add(const Json& item, const std::string& path);
  Json take();  // all messages

 private:
  struct Turn {
    std::string reasoning;
    std::string content;
    Json calls = Json::array();
    bool has_begun = false;
  };
  ApiStatus add_message(const Json& item, const std::string& path);
  ApiStatus add_reasoning(const Json& item, const std::string& path);
  ApiStatus add_call(const Json& item, const std::string& path, bool is_custom);
  ApiStatus add_output(const Json& item, const std::string& path);
  void add_system(const std::string& text);
  void end_turn();

  Json messages_ = Json::array();
  Turn turn_;  // that no other item has ended yet
};

}  // namespace ultraspeed::server
