// The rules of the complimentary chat, as a state machine that is told the time:
//
//   - an account enters the queue at most 10 times a day; coming back to the place it has is no
//   entry
//   - the queue is first come, first served, one place an account, and gives sessions as slots are
//     free; who waits and does not ask for a minute has left
//   - a session lasts 30 minutes, and ends after 5 minutes without a message or an answer under
//   way;
//     2 minutes before either it warns; none outlasts the trial
//   - a conversation's input is limited
//
// The numbers are ChatOptions'. An entry counts on the day on which it is made. Every call first
// does what the time asks for, so that no rule depends on a timer; advance() does it alone.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "access/calendar.h"
#include "access/config.h"
#include "access/refusal.h"

namespace ultraspeed::access {

enum class ChatEnd : uint8_t {
  kLeft,    // said so
  kAbsent,  // no longer asked, while waiting
  kTimeUp,  // 30 minutes
  kIdle,    // 5 minutes of silence
  kClosed,  // the trial is over
};
std::string_view end_name(ChatEnd end);  // "time up"

struct ChatState {
  enum class Kind : uint8_t { kOutside, kWaiting, kActive };
  Kind kind = Kind::kOutside;
  uint32_t entries_left = 0;  // of today

  // Waiting:
  uint32_t position = 0;  // 1: next
  std::chrono::seconds expected_wait{0};

  // Active:
  UtcTime ends;                      // whatever happens
  std::optional<UtcTime> idle_ends;  // unless something is said; nullopt: an answer is under way
  bool is_ending_soon = false;       // by either

  // Outside: how the last session ended, if there was one since the server started.
  std::optional<ChatEnd> last_end;
};

// What happened to an account's place, for whoever keeps a record.
struct ChatChange {
  enum class Kind : uint8_t { kJoined, kStarted, kEnded };
  Kind kind = Kind::kJoined;
  int64_t account_id = 0;
  UtcTime at;
  ChatEnd end = ChatEnd::kLeft;  // of kEnded
};

// A place as a record has it.
struct ChatPlace {
  int64_t account_id = 0;
  UtcTime joined;
  std::optional<UtcTime> started;
};

// An answer in a session.
struct ChatTurn {
  UtcTime session;    // by its begin
  milliseconds left;  // of it: an answer is cut then
};

// One thread at a time.
class ChatQueue {
 public:
  // `closes`: when the trial is over.
  ChatQueue(const ChatOptions& options, const Calendar& calendar, UtcTime closes)
      : options_(options), calendar_(calendar), closes_(closes) {}

  // Takes a place, or finds the one the account has. Refuses: 429 "chat_entries_used_up" (until the
  // next day), 503 "chat_queue_full", 403 "trial_ended".
  Answer<ChatState> join(int64_t account_id, UtcTime now);
  // Asking keeps a place in the queue.
  ChatState state(int64_t account_id, UtcTime now);
  void leave(int64_t account_id, UtcTime now);

  // Around each answer of a session. Refuses: 409 "no_chat_session", 413 "conversation_too_long",
  // 429 "chat_answers_under_way".
  Answer<ChatTurn> begin_answer(int64_t account_id, uint32_t input_tokens, UtcTime now);
  // Nothing, if that session has ended since.
  void end_answer(int64_t account_id, const ChatTurn& turn, UtcTime now);

  void advance(UtcTime now);
  // What happened since the last call, in order.
  std::vector<ChatChange> take_changes();

  // After a restart: places as they were, in the order in which they joined, and how many entries
  // each account has made today. Who waits has a minute to ask again, and no session counts as
  // silent before `now`. REQUIRES: a new queue.
  void restore(const std::vector<ChatPlace>& places,
               const std::map<int64_t, uint32_t>& entries_today, UtcTime now);

 private:
  struct Waiting {
    int64_t account_id;
    UtcTime asked;  // last
  };
  struct Active {
    UtcTime started, spoke;    // spoke: the last message or end of an answer
    uint32_t num_answers = 0;  // under way
  };

  UtcTime end_of(const Active& session) const;
  std::optional<UtcTime> idle_end_of(const Active& session) const;
  std::chrono::seconds expected_wait(size_t num_ahead, UtcTime now) const;
  milliseconds mean_session() const;
  void start_day(UtcTime now);
  void end_sessions(UtcTime now);
  void drop_absent(UtcTime now);
  void start_sessions(UtcTime now);
  void end_place(int64_t account_id, ChatEnd end, UtcTime now);
  std::deque<Waiting>::iterator find_waiting(int64_t account_id);

  const ChatOptions options_;
  const Calendar calendar_;
  const UtcTime closes_;
  std::deque<Waiting> waiting_;       // at most max_queue
  std::map<int64_t, Active> active_;  // at most num_slots
  int64_t day_ = 0;                   // which the entries are of
  std::map<int64_t, uint32_t> entries_;
  std::map<int64_t, ChatEnd> last_ends_;  // of today
  std::deque<milliseconds> lengths_;      // of the last sessions
  std::vector<ChatChange> changes_;
};

}  // namespace ultraspeed::access
