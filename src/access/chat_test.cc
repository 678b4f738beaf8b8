// The chat's rules at their edges, under any sequence of events, and over restarts.
#include "access/chat.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>

#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using Kind = ChatState::Kind;

const UtcTime kStart = UtcTime(std::chrono::days(20620)) + hours(9);

struct QueueFixture {
  explicit QueueFixture(uint32_t num_slots = 1, Calendar calendar = {}) {
    options.num_slots = num_slots;
    queue = std::make_unique<ChatQueue>(options, calendar, calendar.begin_of(20628));
  }

  ChatOptions options;
  std::unique_ptr<ChatQueue> queue;
  UtcTime now = kStart;
};

TEST(ChatQueueTest, TheEleventhEntryOfTheDayIsRefused) {
  QueueFixture f;
  for (uint32_t i = 1; i <= 10; ++i) {
    EXPECT_EQ(value_of(f.queue->join(1, f.now)).entries_left, 10 - i);
    f.queue->leave(1, f.now);
  }
  const auto eleventh = f.queue->join(1, f.now);
  EXPECT_EQ(outcome(eleventh), "429 chat_entries_used_up");
  EXPECT_EQ(eleventh.error().retry_after_s, 15U * 3600);
  EXPECT_NE(eleventh.error().message.find("2026-06-17 00:00 UTC"), std::string::npos);
  EXPECT_EQ(outcome(f.queue->join(2, f.now)), "200");  // others may
  f.queue->leave(2, f.now);
  const UtcTime midnight{std::chrono::days(20621)};
  EXPECT_EQ(outcome(f.queue->join(1, midnight - milliseconds(1))), "429 chat_entries_used_up");
  EXPECT_EQ(value_of(f.queue->join(1, midnight)).entries_left, 9U);
}

TEST(ChatQueueTest, ADayBeginsWhereTheCalendarSays) {
  QueueFixture f(1, Calendar(hours(8)));
  for (int i = 0; i < 10; ++i) {
    value_of(f.queue->join(1, f.now));
    f.queue->leave(1, f.now);
  }
  const UtcTime midnight = UtcTime(std::chrono::days(20621)) - hours(8);
  EXPECT_EQ(outcome(f.queue->join(1, midnight - milliseconds(1))), "429 chat_entries_used_up");
  EXPECT_EQ(outcome(f.queue->join(1, midnight)), "200");
}

TEST(ChatQueueTest, ADayHasAsManyHoursAsItsPlaceGivesIt) {
  const Calendar berlin = value_of(Calendar::of_zone("Europe/Berlin"));
  for (const auto& [day, length] : {std::pair("2026-03-28", hours(24)),
                                    {"2026-03-29", hours(23)},
                                    {"2026-10-24", hours(24)},
                                    {"2026-10-25", hours(25)}}) {
    ChatQueue queue(ChatOptions(), berlin, berlin.begin_of(30000));
    const UtcTime begin = berlin.begin_of(*parse_day(day));
    for (int i = 0; i < 10; ++i) {
      value_of(queue.join(1, begin));
      queue.leave(1, begin);
    }
    const auto eleventh = queue.join(1, begin);
    EXPECT_EQ(outcome(eleventh), "429 chat_entries_used_up");
    EXPECT_EQ(eleventh.error().retry_after_s, seconds(length).count()) << day;
    EXPECT_EQ(outcome(queue.join(1, begin + length - milliseconds(1))), "429 chat_entries_used_up");
    EXPECT_EQ(outcome(queue.join(1, begin + length)), "200");
  }
}

TEST(ChatQueueTest, ASessionLastsThirtyMinutes) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  for (int minute = 0; minute < 28; ++minute) {
    const ChatTurn turn = value_of(f.queue->begin_answer(1, 10, f.now));
    EXPECT_EQ(turn.left, minutes(30 - minute));
    f.now += minutes(1);
    f.queue->end_answer(1, turn, f.now);
    EXPECT_EQ(f.queue->state(1, f.now).is_ending_soon, minute == 27) << minute;
  }
  const ChatTurn cut = value_of(f.queue->begin_answer(1, 10, f.now));
  const UtcTime end = kStart + minutes(30);
  ChatState state = f.queue->state(1, end - milliseconds(1));
  EXPECT_EQ(state.kind, Kind::kActive);
  EXPECT_EQ(state.ends, end);
  EXPECT_TRUE(state.is_ending_soon);
  state = f.queue->state(1, end);  // in the middle of an answer
  EXPECT_EQ(state.kind, Kind::kOutside);
  EXPECT_EQ(state.last_end, ChatEnd::kTimeUp);
  EXPECT_EQ(outcome(f.queue->begin_answer(1, 10, end)), "409 no_chat_session");
  f.queue->end_answer(1, cut, end);
}

// Its end says nothing of the session that the account has now.
TEST(ChatQueueTest, AnAnswerMayEndInAnotherSession) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  const ChatTurn old = value_of(f.queue->begin_answer(1, 10, f.now));
  f.queue->leave(1, f.now);
  f.now += seconds(1);
  value_of(f.queue->join(1, f.now));
  const ChatTurn turn = value_of(f.queue->begin_answer(1, 10, f.now));
  f.queue->end_answer(1, old, f.now);
  EXPECT_EQ(f.queue->state(1, f.now).idle_ends, std::nullopt);
  f.queue->end_answer(1, turn, f.now);
  EXPECT_EQ(f.queue->state(1, f.now).idle_ends, f.now + minutes(5));
}

TEST(ChatQueueTest, RefusedMessagesKeepNoSession) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  const auto idle_end = f.queue->state(1, f.now).idle_ends;
  EXPECT_FALSE(f.queue->begin_answer(1, 100'000, f.now + minutes(4)));
  EXPECT_EQ(f.queue->state(1, f.now + minutes(4)).idle_ends, idle_end);
}

TEST(ChatQueueTest, FiveMinutesOfSilenceEndIt) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  const ChatTurn turn = value_of(f.queue->begin_answer(1, 10, f.now));
  EXPECT_EQ(f.queue->state(1, f.now + minutes(6)).kind, Kind::kActive);  // it is being answered
  EXPECT_EQ(f.queue->state(1, f.now + minutes(6)).idle_ends, std::nullopt);
  f.now += minutes(6);
  f.queue->end_answer(1, turn, f.now);
  EXPECT_EQ(f.queue->state(1, f.now).idle_ends, f.now + minutes(5));
  EXPECT_FALSE(f.queue->state(1, f.now + minutes(3) - milliseconds(1)).is_ending_soon);
  EXPECT_TRUE(f.queue->state(1, f.now + minutes(3)).is_ending_soon);
  EXPECT_EQ(f.queue->state(1, f.now + minutes(5) - milliseconds(1)).kind, Kind::kActive);
  EXPECT_EQ(f.queue->state(1, f.now + minutes(5)).last_end, ChatEnd::kIdle);
}

TEST(ChatQueueTest, TwoTabsShareAPlace) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  EXPECT_EQ(value_of(f.queue->join(1, f.now)).entries_left, 9U);
  EXPECT_EQ(value_of(f.queue->join(1, f.now)).kind, Kind::kActive);
  value_of(f.queue->join(2, f.now));
  const ChatState waiting = value_of(f.queue->join(2, f.now));
  EXPECT_EQ(waiting.kind, Kind::kWaiting);
  EXPECT_EQ(waiting.position, 1U);
  EXPECT_EQ(waiting.entries_left, 9U);
  // Two answers at once: it is silent when both have ended.
  const ChatTurn turn = value_of(f.queue->begin_answer(1, 10, f.now));
  ASSERT_TRUE(f.queue->begin_answer(1, 10, f.now));
  EXPECT_EQ(outcome(f.queue->begin_answer(1, 10, f.now)), "429 chat_answers_under_way");
  f.queue->end_answer(1, turn, f.now);
  EXPECT_EQ(f.queue->state(1, f.now).idle_ends, std::nullopt);
}

TEST(ChatQueueTest, FirstComeFirstServed) {
  QueueFixture f(2);
  for (int64_t account = 1; account <= 5; ++account) value_of(f.queue->join(account, f.now));
  EXPECT_EQ(f.queue->state(2, f.now).kind, Kind::kActive);
  EXPECT_EQ(f.queue->state(3, f.now).position, 1U);
  EXPECT_EQ(f.queue->state(5, f.now).position, 3U);
  EXPECT_EQ(f.queue->state(3, f.now).expected_wait, minutes(30));
  EXPECT_EQ(f.queue->state(4, f.now).expected_wait, minutes(30));
  EXPECT_EQ(f.queue->state(5, f.now).expected_wait, minutes(60));
  f.now += seconds(30);
  f.queue->leave(1, f.now);
  EXPECT_EQ(f.queue->state(3, f.now).kind, Kind::kActive);
  EXPECT_EQ(f.queue->state(4, f.now).position, 1U);
  EXPECT_EQ(f.queue->state(4, f.now).expected_wait, seconds(0));  // sessions take 30 s, it seems
}

TEST(ChatQueueTest, WhoDoesNotAskHasLeft) {
  QueueFixture f;
  for (int64_t account = 1; account <= 3; ++account) value_of(f.queue->join(account, f.now));
  EXPECT_EQ(f.queue->state(2, f.now + seconds(59)).position, 1U);
  EXPECT_EQ(f.queue->state(3, f.now + seconds(150)).last_end, ChatEnd::kAbsent);
  EXPECT_EQ(f.queue->state(2, f.now + seconds(118)).position, 1U);
}

TEST(ChatQueueTest, TheTrialsEndEndsAll) {
  QueueFixture f;
  const UtcTime end{std::chrono::days(20628)};
  f.now = end - minutes(3);
  EXPECT_EQ(value_of(f.queue->join(1, f.now)).ends, end);
  value_of(f.queue->join(2, end - seconds(30)));
  EXPECT_EQ(f.queue->state(1, end).last_end, ChatEnd::kClosed);
  EXPECT_EQ(f.queue->state(2, end).last_end, ChatEnd::kClosed);
  EXPECT_EQ(outcome(f.queue->join(3, end)), "403 trial_ended");
}

TEST(ChatQueueTest, ConversationsAndTheQueueAreLimited) {
  QueueFixture f;
  value_of(f.queue->join(1, f.now));
  EXPECT_EQ(outcome(f.queue->begin_answer(1, 8192, f.now)), "200");
  EXPECT_EQ(outcome(f.queue->begin_answer(1, 8193, f.now)), "413 conversation_too_long");
  f.options.max_queue = 1;
  ChatQueue queue(f.options, {}, UtcTime::max());
  EXPECT_EQ(outcome(queue.join(1, f.now)), "200");
  EXPECT_EQ(outcome(queue.join(2, f.now)), "200");
  EXPECT_EQ(outcome(queue.join(3, f.now)), "503 chat_queue_full");
  EXPECT_EQ(queue.state(3, f.now).entries_left, 10U);  // it was no entry
}

TEST(ChatQueueTest, AClockSetBackGivesNoMoreEntries) {
  QueueFixture f;
  for (int i = 0; i < 10; ++i) {
    value_of(f.queue->join(1, f.now));
    f.queue->leave(1, f.now);
  }
  EXPECT_EQ(outcome(f.queue->join(1, f.now - hours(24))), "429 chat_entries_used_up");
}

// An account's life as the changes tell it, checked against every rule.
class Record {
 public:
  explicit Record(const ChatOptions& options) : options_(options) {}

  void add(const ChatChange& change) {
    if (change.kind == ChatChange::Kind::kJoined) {
      RC_ASSERT(!waiting_.contains(change.account_id) && !active_.contains(change.account_id));
      const int64_t day = Calendar().day_of(change.at);
      const uint32_t num_entries = ++entries_[{day, change.account_id}];
      RC_ASSERT(num_entries <= options_.max_entries_per_day);
      waiting_.insert(change.account_id);
      order_.push_back(change.account_id);
    } else if (change.kind == ChatChange::Kind::kStarted) {
      RC_ASSERT(order_.front() == change.account_id);
      order_.pop_front();
      waiting_.erase(change.account_id);
      active_[change.account_id] = change.at;
      RC_ASSERT(active_.size() <= options_.num_slots);
    } else if (active_.contains(change.account_id)) {
      const auto length = change.at - active_[change.account_id];
      RC_ASSERT(change.end != ChatEnd::kTimeUp || length >= options_.session);
      RC_ASSERT(change.end != ChatEnd::kIdle || length >= options_.idle);
      active_.erase(change.account_id);
    } else {
      RC_ASSERT(waiting_.erase(change.account_id) == 1);
      std::erase(order_, change.account_id);
    }
  }
  void check(UtcTime now) const {
    for (const auto& [account, started] : active_) RC_ASSERT(started + options_.session > now);
    RC_ASSERT(waiting_.empty() || active_.size() == options_.num_slots);
  }

 private:
  const ChatOptions options_;
  std::map<std::pair<int64_t, int64_t>, uint32_t> entries_;
  std::set<int64_t> waiting_;
  std::deque<int64_t> order_;
  std::map<int64_t, UtcTime> active_;
};

TEST(ChatQueueTest, RulesHoldUnderAnyEvents) {
  rc::check([] {
    QueueFixture f(*rc::gen::inRange(1U, 4U));
    Record record(f.options);
    const int num_accounts = *rc::gen::inRange(1, 8);
    std::map<int64_t, ChatTurn> turns;  // the last ones
    for (int i = 0; i < 400; ++i) {
      f.now += seconds(*rc::gen::inRange(0, 50));
      const int64_t account = *rc::gen::inRange(0, num_accounts);
      switch (*rc::gen::inRange(0, 8)) {
        case 0:
          f.queue->leave(account, f.now);
          break;
        case 1:
          if (const auto begun = f.queue->begin_answer(account, 10, f.now)) turns[account] = *begun;
          break;
        case 2:
          f.queue->end_answer(account, turns[account], f.now);
          break;
        case 3:
          f.queue->advance(f.now);
          break;
        case 4:
          f.queue->state(account, f.now);
          break;
        default:
          (void)f.queue->join(account, f.now);
      }
      for (const ChatChange& change : f.queue->take_changes()) record.add(change);
      record.check(f.now);
    }
  });
}

class ChatTest : public testing::Test, protected AccessFixture {
 protected:
  ChatTest() {
    config.chat.num_slots = 1;
    clock.set(kStart);
    for (const char* name : {"ann", "bob"}) ids.push_back(add_user(name).account.id);
    open();
  }
  void open() {
    chat.reset();
    chat = value_of(Chat::open(*database, clock, config));
  }

  std::vector<int64_t> ids;
  std::unique_ptr<Chat> chat;
};

TEST_F(ChatTest, PlacesAndEntriesOutliveTheProcess) {
  for (int i = 0; i < 4; ++i) {
    value_of(chat->join(ids[0]));
    chat->leave(ids[0]);
  }
  value_of(chat->join(ids[0]));
  value_of(chat->join(ids[1]));
  clock.advance(minutes(4));
  chat->state(ids[1]);  // too late, for one who waits
  value_of(chat->join(ids[1]));
  ASSERT_TRUE(chat->save());
  clock.advance(minutes(2));  // the server was away
  open();
  const ChatState first = chat->state(ids[0]);
  EXPECT_EQ(first.kind, Kind::kActive);
  EXPECT_EQ(first.ends, kStart + minutes(30));
  EXPECT_EQ(first.idle_ends, clock.now() + minutes(5));
  EXPECT_EQ(first.entries_left, 5U);
  const ChatState second = chat->state(ids[1]);
  EXPECT_EQ(second.position, 1U);
  EXPECT_EQ(second.entries_left, 8U);
  clock.set(kStart + minutes(31));
  ASSERT_TRUE(chat->save());
  EXPECT_EQ(chat->state(ids[0]).last_end, ChatEnd::kTimeUp);
}

TEST_F(ChatTest, ADayLaterTheRecordGivesEntriesBack) {
  for (int i = 0; i < 10; ++i) {
    value_of(chat->join(ids[0]));
    chat->leave(ids[0]);
  }
  ASSERT_TRUE(chat->save());
  open();
  EXPECT_EQ(outcome(chat->join(ids[0])), "429 chat_entries_used_up");
  clock.advance(hours(24));
  open();
  EXPECT_EQ(outcome(chat->join(ids[0])), "200");
}

}  // namespace
}  // namespace ultraspeed::access
