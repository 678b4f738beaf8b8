// The chat's queue with its record in the database, so that neither entries nor places are lost
// with the process.
#pragma once

#include <memory>
#include <mutex>

#include "access/chat_queue.h"

namespace ultraspeed::access {

class Database;

// Thread-safe.
class Chat {
 public:
  // Takes up what the record has. Errors: those of Database.
  static Result<std::unique_ptr<Chat>> open(Database& database, const Clock& clock,
                                            const AccessConfig& config);

  // As ChatQueue's, now.
  Answer<ChatState> join(int64_t account_id);
  ChatState state(int64_t account_id);
  void leave(int64_t account_id);
  Answer<ChatTurn> begin_answer(int64_t account_id, uint32_t input_tokens);
  void end_answer(int64_t account_id, const ChatTurn& turn);

  // Does what the time asks for, and writes what happened. Once a second is often enough. After an
  // error it is written the next time.
  Status save();

 private:
  Chat(Database& database, const Clock& clock, const AccessConfig& config)
      : database_(database),
        clock_(clock),
        calendar_(config.calendar),
        queue_(config.chat, config.calendar, config.window.end(config.calendar)) {}
  Status restore();

  Database& database_;
  const Clock& clock_;
  const Calendar calendar_;
  std::mutex mutex_;  // of queue_
  ChatQueue queue_;
  std::mutex save_mutex_;  // of unsaved_
  std::vector<ChatChange> unsaved_;
};

}  // namespace ultraspeed::access
