#include "access/chat_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <queue>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

constexpr size_t kNumLengths = 32;
constexpr uint32_t kMaxAnswers = 2;  // under way in a session: two tabs
constexpr std::array<std::string_view, 5> kEndNames = {"left", "absent", "time up", "idle",
                                                       "closed"};

std::chrono::seconds until(UtcTime time, UtcTime now) {
  return std::chrono::ceil<std::chrono::seconds>(time - now);
}

}  // namespace

std::string_view end_name(ChatEnd end) {
  return kEndNames[static_cast<size_t>(end)];
}

Answer<ChatState> ChatQueue::join(int64_t account_id, UtcTime now) {
  advance(now);
  if (active_.contains(account_id) || find_waiting(account_id) != waiting_.end()) {
    return state(account_id, now);
  }
  if (now >= closes_) return refuse(403, "trial_ended", "The trial is over, and the chat with it.");
  uint32_t& num_entries = entries_[account_id];
  if (num_entries >= options_.max_entries_per_day) {
    const UtcTime tomorrow = calendar_.begin_of(day_ + 1);
    return refuse(
        429, "chat_entries_used_up",
        fmt::format("Each account may enter the chat's queue {} times a day; the next day "
                    "begins at {}.",
                    options_.max_entries_per_day, calendar_.local_text(tomorrow)),
        static_cast<uint32_t>(until(tomorrow, now).count()));
  }
  if (waiting_.size() >= options_.max_queue) {
    return refuse(503, "chat_queue_full", "The chat's queue is full; try again later.", 60);
  }
  ++num_entries;
  waiting_.push_back({account_id, now});
  changes_.push_back({ChatChange::Kind::kJoined, account_id, now, ChatEnd::kLeft});
  start_sessions(now);
  return state(account_id, now);
}

ChatState ChatQueue::state(int64_t account_id, UtcTime now) {
  // Whoever asks in time is here, also if nothing else has happened since.
  if (const auto asking = find_waiting(account_id);
      asking != waiting_.end() && asking->asked + options_.absence > now) {
    asking->asked = now;
  }
  advance(now);
  ChatState state;
  const auto entries = entries_.find(account_id);
  const uint32_t num_entries = entries == entries_.end() ? 0 : entries->second;
  state.entries_left =
      options_.max_entries_per_day - std::min(num_entries, options_.max_entries_per_day);
  if (const auto session = active_.find(account_id); session != active_.end()) {
    state.kind = ChatState::Kind::kActive;
    state.ends = end_of(session->second);
    state.idle_ends = idle_end_of(session->second);
    const UtcTime first_end = std::min(state.ends, state.idle_ends.value_or(state.ends));
    state.is_ending_soon = first_end - now <= options_.warning;
  } else if (const auto place = find_waiting(account_id); place != waiting_.end()) {
    state.kind = ChatState::Kind::kWaiting;
    const auto num_ahead = static_cast<size_t>(place - waiting_.begin());
    state.position = static_cast<uint32_t>(num_ahead) + 1;
    state.expected_wait = expected_wait(num_ahead, now);
  } else if (const auto end = last_ends_.find(account_id); end != last_ends_.end()) {
    state.last_end = end->second;
  }
  return state;
}

void ChatQueue::leave(int64_t account_id, UtcTime now) {
  advance(now);
  end_place(account_id, ChatEnd::kLeft, now);
  start_sessions(now);
}

Answer<ChatTurn> ChatQueue::begin_answer(int64_t account_id, uint32_t input_tokens, UtcTime now) {
  advance(now);
  const auto session = active_.find(account_id);
  if (session == active_.end()) {
    return refuse(409, "no_chat_session",
                  "There is no chat session, or it has ended; queue again.");
  }
  if (input_tokens > options_.max_input_tokens) {
    return refuse(413, "conversation_too_long",
                  fmt::format("The conversation has {} tokens, and a chat may have {}; begin a new "
                              "one. What was said can be exported.",
                              input_tokens, options_.max_input_tokens));
  }
  if (session->second.num_answers == kMaxAnswers) {
    return refuse(
        429, "chat_answers_under_way",
        fmt::format("{} answers are under way in this chat; wait for one of them.", kMaxAnswers));
  }
  session->second.spoke = now;
  ++session->second.num_answers;
  return ChatTurn{session->second.started, end_of(session->second) - now};
}

void ChatQueue::end_answer(int64_t account_id, const ChatTurn& turn, UtcTime now) {
  advance(now);
  const auto session = active_.find(account_id);
  if (session == active_.end() || session->second.started != turn.session) return;
  if (session->second.num_answers == 0) return;
  --session->second.num_answers;
  session->second.spoke = now;
}

void ChatQueue::advance(UtcTime now) {
  start_day(now);
  end_sessions(now);
  drop_absent(now);
  start_sessions(now);
}

std::vector<ChatChange> ChatQueue::take_changes() {
  return std::exchange(changes_, {});
}

void ChatQueue::restore(const std::vector<ChatPlace>& places,
                        const std::map<int64_t, uint32_t>& entries_today, UtcTime now) {
  US_CHECK(waiting_.empty() && active_.empty() && entries_.empty(), "a queue in use");
  day_ = calendar_.day_of(now);
  entries_ = entries_today;
  for (const ChatPlace& place : places) {
    if (place.started) {
      active_.emplace(place.account_id, Active{*place.started, now, 0});
    } else {
      waiting_.push_back({place.account_id, now});
    }
  }
}

UtcTime ChatQueue::end_of(const Active& session) const {
  return std::min<UtcTime>(session.started + options_.session, closes_);
}

std::optional<UtcTime> ChatQueue::idle_end_of(const Active& session) const {
  if (session.num_answers > 0) return std::nullopt;
  return session.spoke + options_.idle;
}

// As if every session, from now on, took as long as the last ones did.
std::chrono::seconds ChatQueue::expected_wait(size_t num_ahead, UtcTime now) const {
  const milliseconds mean = mean_session();
  std::priority_queue<UtcTime, std::vector<UtcTime>, std::greater<>> ends;
  for (const auto& [account, session] : active_) ends.push(std::max(now, session.started + mean));
  while (ends.size() < options_.num_slots) ends.push(now);
  for (size_t i = 0; i < num_ahead; ++i) {
    const UtcTime start = ends.top();
    ends.pop();
    ends.push(start + mean);
  }
  return until(ends.top(), now);
}

milliseconds ChatQueue::mean_session() const {
  if (lengths_.empty()) return options_.session;
  return std::accumulate(lengths_.begin(), lengths_.end(), milliseconds(0)) /
         static_cast<int64_t>(lengths_.size());
}

void ChatQueue::start_day(UtcTime now) {
  const int64_t day = calendar_.day_of(now);
  if (day <= day_) return;  // a clock that was set back gives nobody more entries
  day_ = day;
  entries_.clear();
  last_ends_.clear();
}

void ChatQueue::end_sessions(UtcTime now) {
  std::vector<std::pair<int64_t, ChatEnd>> ended;
  for (const auto& [account_id, session] : active_) {
    const auto idle_end = idle_end_of(session);
    if (now >= closes_) {
      ended.emplace_back(account_id, ChatEnd::kClosed);
    } else if (now >= end_of(session)) {
      ended.emplace_back(account_id, ChatEnd::kTimeUp);
    } else if (idle_end && now >= *idle_end) {
      ended.emplace_back(account_id, ChatEnd::kIdle);
    }
  }
  for (const auto& [account_id, end] : ended) end_place(account_id, end, now);
}

void ChatQueue::drop_absent(UtcTime now) {
  for (size_t i = 0; i < waiting_.size();) {
    const Waiting& waiting = waiting_[i];
    if (now >= closes_) {
      end_place(waiting.account_id, ChatEnd::kClosed, now);
    } else if (waiting.asked + options_.absence <= now) {
      end_place(waiting.account_id, ChatEnd::kAbsent, now);
    } else {
      ++i;
    }
  }
}

void ChatQueue::start_sessions(UtcTime now) {
  while (!waiting_.empty() && active_.size() < options_.num_slots) {
    const int64_t account_id = waiting_.front().account_id;
    waiting_.pop_front();
    active_.emplace(account_id, Active{now, now, 0});
    changes_.push_back({ChatChange::Kind::kStarted, account_id, now, ChatEnd::kLeft});
  }
}

void ChatQueue::end_place(int64_t account_id, ChatEnd end, UtcTime now) {
  if (const auto session = active_.find(account_id); session != active_.end()) {
    lengths_.push_back(now - session->second.started);
    if (lengths_.size() > kNumLengths) lengths_.pop_front();
    active_.erase(session);
  } else if (const auto place = find_waiting(account_id); place != waiting_.end()) {
    waiting_.erase(place);
  } else {
    return;
  }
  last_ends_[account_id] = end;
  changes_.push_back({ChatChange::Kind::kEnded, account_id, now, end});
}

std::deque<ChatQueue::Waiting>::iterator ChatQueue::find_waiting(int64_t account_id) {
  return std::ranges::find(waiting_, account_id, &Waiting::account_id);
}

}  // namespace ultraspeed::access
