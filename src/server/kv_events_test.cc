// KV events, as subscribers that know ZeroMQ and MessagePack alone get them.
#include "server/kv_events.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "engine/block_index.h"
#include "engine/engine_harness.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using engine::BlockHash;
using engine::CacheChange;
using nlohmann::json;

struct Message {
  std::string topic;
  uint64_t number = 0;
  std::string payload;

  json batch() const { return json::from_msgpack(payload); }
  bool operator==(const Message&) const = default;
};

class Subscriber {
 public:
  Subscriber(zmq::socket_type type, const std::string& endpoint) : socket_(context_, type) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvhwm, 0);
    if (type == zmq::socket_type::sub) socket_.set(zmq::sockopt::subscribe, "");
    socket_.connect(endpoint);
  }

  zmq::socket_t& socket() { return socket_; }

  // nullopt: none in that time.
  std::optional<std::vector<std::string>> receive(int timeout_ms = 10'000) {
    socket_.set(zmq::sockopt::rcvtimeo, timeout_ms);
    std::vector<zmq::message_t> frames;
    if (!zmq::recv_multipart(socket_, std::back_inserter(frames))) return std::nullopt;
    std::vector<std::string> texts;
    texts.reserve(frames.size());
    for (const zmq::message_t& frame : frames) texts.push_back(frame.to_string());
    return texts;
  }

  // [topic, number, payload]
  static Message message(std::vector<std::string> frames) {
    EXPECT_EQ(frames.size(), 3u);
    frames.resize(3);
    EXPECT_EQ(frames[1].size(), 8u);
    uint64_t number = 0;
    for (const char byte : frames[1]) number = number << 8 | static_cast<unsigned char>(byte);
    return {frames[0], number, frames[2]};
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

// Asks for what came from `begin` on, with a DEALER socket, up to the mark of the end.
std::vector<Message> replay(const std::string& endpoint, uint64_t begin) {
  Subscriber dealer(zmq::socket_type::dealer, endpoint);
  zmq::send_multipart(dealer.socket(),
                      std::array{zmq::str_buffer(""), zmq::buffer(kv_event_number(begin))});
  std::vector<Message> messages;
  for (;;) {
    auto frames = dealer.receive();
    if (!frames || frames->empty() || !frames->front().empty()) {
      ADD_FAILURE() << "no end of the replay";
      return messages;
    }
    frames->erase(frames->begin());
    messages.push_back(Subscriber::message(std::move(*frames)));
    if (messages.back().number != ~uint64_t{0}) continue;
    EXPECT_EQ(messages.back(), (Message{"", ~uint64_t{0}, ""}));
    messages.pop_back();
    return messages;
  }
}

KvEventOptions local_options() {
  return {.endpoint = "tcp://127.0.0.1:*",
          .replay_endpoint = "tcp://127.0.0.1:*",
          .topic = "kv@10.0.0.7:8000@tiny"};
}

std::unique_ptr<KvEventPublisher> publisher_of(const KvEventOptions& options) {
  auto publisher = KvEventPublisher::open(options);
  EXPECT_TRUE(publisher) << publisher.error().message;
  return std::move(*publisher);
}

CacheChange removal(BlockHash hash) {
  return {.removed = {hash}};
}

// Removals until the subscriber gets one, which is what it gets of them first.
void connect(KvEventPublisher& publisher, Subscriber& subscriber) {
  for (int i = 0; i < 200; ++i) {
    publisher.on_change(removal(0));
    if (!subscriber.receive(50)) continue;
    while (subscriber.receive(200)) {
    }
    return;
  }
  FAIL() << "no message within 10 s";
}

void wait_for_published(const KvEventPublisher& publisher, uint64_t count) {
  for (int i = 0; i < 1000 && publisher.counts().num_published < count; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(publisher.counts().num_published, count);
}

TEST(KvEvents, ABatchHasVllmsFields) {
  constexpr BlockHash kFirst = 0x8000000000000001, kSecond = 0xffffffffffffffff;
  const CacheChange change{
      .stored = {{"", {}, {kFirst, kSecond}, {1, 2, 3, 4}}, {"", kSecond, {kFirst}, {5, 6}}},
      .removed = {kSecond, kFirst}};
  const auto bytes = kv_event_batch(change, 1.5);
  EXPECT_EQ(json::from_msgpack(bytes), json::parse(R"([1.5, [
    {"type": "BlockStored", "block_hashes": [9223372036854775809, 18446744073709551615],
     "parent_block_hash": null, "token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": null,
     "medium": "GPU", "lora_name": null},
    {"type": "BlockStored", "block_hashes": [9223372036854775809],
     "parent_block_hash": 18446744073709551615, "token_ids": [5, 6], "block_size": 2,
     "lora_id": null, "medium": "GPU", "lora_name": null},
    {"type": "BlockRemoved", "block_hashes": [18446744073709551615, 9223372036854775809],
     "medium": "GPU"}], 0])"));
  // MessagePack's own bytes: an array of 3, a float, an array of 3, a map of 8 whose first key has
  // 4 bytes and a value of 11, a key of 12 and an array of 2 numbers of 64 bits.
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 2), "\x93\xca");
  EXPECT_EQ(std::string(bytes.begin() + 6, bytes.begin() + 40),
            "\x93\x88\xa4type\xab"
            "BlockStored\xac"
            "block_hashes\x92\xcf");
  EXPECT_EQ(json::from_msgpack(kv_event_batch({.is_cleared = true}, 0.1)),
            json::parse(R"([0.1, [{"type": "AllBlocksCleared"}], 0])"));
}

TEST(KvEvents, ASaltIsAnExtraKeyOfATextsFirstBlock) {
  const CacheChange change{.stored = {{"salt", {}, {5, 6, 7}, {1, 2, 3}}, {"salt", 7, {8}, {4}}}};
  const json events = json::from_msgpack(kv_event_batch(change, 0.1))[1];
  EXPECT_EQ(events[0]["extra_keys"], json::parse(R"([["salt"], null, null])"));
  EXPECT_FALSE(events[1].contains("extra_keys"));
}

TEST(KvEvents, ANumberHasItsHighestByteFirst) {
  EXPECT_EQ(kv_event_number(0x0102030405060708), "\1\2\3\4\5\6\7\10");
}

TEST(KvEvents, SubscribersGetNumberedBatches) {
  const auto publisher = publisher_of(local_options());
  Subscriber subscriber(zmq::socket_type::sub, publisher->endpoint());
  Subscriber other_topic(zmq::socket_type::sub, publisher->endpoint());
  other_topic.socket().set(zmq::sockopt::unsubscribe, "");
  other_topic.socket().set(zmq::sockopt::subscribe, "kv@10.0.0.8");
  connect(*publisher, subscriber);
  for (BlockHash hash = 100; hash < 200; ++hash) publisher->on_change(removal(hash));
  uint64_t number = 0;
  for (BlockHash hash = 100; hash < 200; ++hash) {
    const auto frames = subscriber.receive();
    ASSERT_TRUE(frames);
    const Message message = Subscriber::message(*frames);
    EXPECT_EQ(message.topic, "kv@10.0.0.7:8000@tiny");
    EXPECT_EQ(message.batch()[1][0]["block_hashes"], json::array({hash}));
    EXPECT_EQ(message.batch()[2], 0);
    const double age_s =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() -
        message.batch()[0].get<double>();
    EXPECT_GE(age_s, 0);
    EXPECT_LT(age_s, 60);
    EXPECT_TRUE(hash == 100 || message.number == number + 1) << message.number;
    number = message.number;
  }
  EXPECT_FALSE(other_topic.receive(50));
}

TEST(KvEvents, WhatWasMissedIsToldAgain) {
  const auto publisher = publisher_of(local_options());
  for (BlockHash hash = 0; hash < 10; ++hash) publisher->on_change(removal(hash));
  wait_for_published(*publisher, 10);
  const std::vector<Message> messages = replay(publisher->replay_endpoint(), 4);
  ASSERT_EQ(messages.size(), 6u);
  for (size_t i = 0; i < messages.size(); ++i) {
    EXPECT_EQ(messages[i].topic, local_options().topic);
    EXPECT_EQ(messages[i].number, 4 + i);
    EXPECT_EQ(messages[i].batch()[1][0]["block_hashes"], json::array({4 + i}));
  }
  EXPECT_TRUE(replay(publisher->replay_endpoint(), 10).empty());
  EXPECT_TRUE(replay(publisher->replay_endpoint(), ~uint64_t{0}).empty());

  // A REQ socket takes one message for one request.
  Subscriber request(zmq::socket_type::req, publisher->replay_endpoint());
  request.socket().send(zmq::buffer(kv_event_number(9)), zmq::send_flags::none);
  const auto reply = request.receive();
  ASSERT_TRUE(reply);
  EXPECT_EQ(Subscriber::message(*reply), messages.back());
}

TEST(KvEvents, RequestsThatAreNoneGetNoAnswer) {
  const auto publisher = publisher_of(local_options());
  publisher->on_change(removal(1));
  wait_for_published(*publisher, 1);
  const std::vector<std::vector<std::string>> requests = {{"", "1234567"},
                                                          {"", "123456789"},
                                                          {kv_event_number(0)},
                                                          {"x", kv_event_number(0)},
                                                          {"", kv_event_number(0), ""},
                                                          {"", std::string(1000, 'x')}};
  for (const auto& request : requests) {
    Subscriber dealer(zmq::socket_type::dealer, publisher->replay_endpoint());
    std::vector<zmq::const_buffer> frames;
    frames.reserve(request.size());
    for (const std::string& frame : request) frames.push_back(zmq::buffer(frame));
    zmq::send_multipart(dealer.socket(), frames);
    EXPECT_FALSE(dealer.receive(50));
  }
  EXPECT_EQ(replay(publisher->replay_endpoint(), 0).size(), 1u);
}

TEST(KvEvents, ReplayIsBounded) {
  KvEventOptions options = local_options();
  options.max_batches = 4;
  const auto publisher = publisher_of(options);
  for (uint64_t i = 0; i < 10; ++i) {
    publisher->on_change(removal(i));
    wait_for_published(*publisher, i + 1);  // as many may wait
  }
  std::vector<Message> messages = replay(publisher->replay_endpoint(), 0);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages.front().number, 6u);

  options = local_options();
  options.max_bytes = 1000;
  const auto small = publisher_of(options);
  for (uint64_t i = 0; i < 100; ++i) {
    small->on_change(removal(i));
    wait_for_published(*small, i + 1);
  }
  messages = replay(small->replay_endpoint(), 0);
  EXPECT_GT(messages.size(), 10u);
  EXPECT_LT(messages.size(), 50u);
  EXPECT_EQ(messages.back().number, 99u);
}

TEST(KvEvents, AChangeWithoutRoomLeavesAGap) {
  KvEventOptions options = local_options();
  options.max_bytes = 1000;
  const auto publisher = publisher_of(options);
  publisher->on_change(removal(1));
  wait_for_published(*publisher, 1);
  publisher->on_change({.removed = std::vector<BlockHash>(1000, 2)});
  publisher->on_change(removal(3));
  wait_for_published(*publisher, 2);
  EXPECT_EQ(publisher->counts().num_dropped, 1u);
  const std::vector<Message> messages = replay(publisher->replay_endpoint(), 0);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].number, 0u);
  EXPECT_EQ(messages[1].number, 2u);
}

TEST(KvEvents, SubscribersThatDoNotReadHoldNobodyUp) {
  KvEventOptions options = local_options();
  options.max_batches = 50;
  const auto publisher = publisher_of(options);
  Subscriber subscriber(zmq::socket_type::sub, publisher->endpoint());
  connect(*publisher, subscriber);
  const KvEventCounts before = publisher->counts();
  constexpr uint64_t kNumChanges = 20'000;
  const CacheChange change{.removed = std::vector<BlockHash>(500, 2)};
  for (uint64_t i = 0; i < kNumChanges; ++i) publisher->on_change(change);
  EXPECT_GT(publisher->counts().num_dropped, before.num_dropped);
  const auto num_told = [&] {
    const KvEventCounts counts = publisher->counts();
    return counts.num_published + counts.num_dropped;
  };
  for (int i = 0; i < 1000 && num_told() < before.num_published + kNumChanges; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(num_told(), before.num_published + before.num_dropped + kNumChanges);
}

TEST(KvEvents, AnEndpointThatCannotBeListenedOnIsToldOf) {
  for (const std::string endpoint : {"", "here", "tcp://*", "tcp://203.0.113.1:5557"}) {
    const auto publisher = KvEventPublisher::open({.endpoint = endpoint});
    ASSERT_FALSE(publisher) << endpoint;
    EXPECT_EQ(publisher.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(publisher.error().message.starts_with("--kv-events " + endpoint + ": "));
    EXPECT_TRUE(publisher.error().message.ends_with("such as tcp://*:5557"));
  }
  const auto publisher = publisher_of(local_options());
  KvEventOptions options = local_options();
  options.replay_endpoint = publisher->endpoint();
  const auto second = KvEventPublisher::open(options);
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().message.starts_with("--kv-events-replay "));
  EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
}

// What a router makes of batches: the texts that end with a block, by its name.
class Router {
 public:
  using Text = engine::BlockText;

  void read(const json& batch) {
    ASSERT_TRUE(batch.is_array() && batch.size() == 3);
    for (const json& event : batch[1]) {
      if (event["type"] == "BlockStored") {
        store(event);
      } else if (event["type"] == "BlockRemoved") {
        for (const json& hash : event["block_hashes"]) {
          EXPECT_EQ(texts_.erase(hash.get<BlockHash>()), 1u);
          ++num_removed;
        }
      } else {
        EXPECT_EQ(event["type"], "AllBlocksCleared");
        texts_.clear();
        ++num_cleared;
      }
    }
  }

  std::set<Text> texts() const {
    std::set<Text> texts;
    for (const auto& [hash, text] : texts_) texts.insert(text);
    return texts;
  }

  size_t num_removed = 0;
  size_t num_cleared = 0;

 private:
  void store(const json& event) {
    Text text;
    const json& parent = event.at("parent_block_hash");
    if (!parent.is_null()) {
      ASSERT_TRUE(texts_.contains(parent.get<BlockHash>())) << "a parent that is not held";
      text = texts_.at(parent.get<BlockHash>());
    } else if (event.contains("extra_keys")) {
      text.first = event["extra_keys"][0][0].get<std::string>();
    }
    const auto hashes = event.at("block_hashes").get<std::vector<BlockHash>>();
    const auto tokens = event.at("token_ids").get<std::vector<int32_t>>();
    const auto size = event.at("block_size").get<size_t>();
    ASSERT_EQ(tokens.size(), size * hashes.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      text.second.push_back(tokens[i]);
      if ((i + 1) % size != 0) continue;
      EXPECT_TRUE(texts_.emplace(hashes[i / size], text).second);
    }
  }

  std::map<BlockHash, Text> texts_;
};

// Prompts that go on from earlier ones, in caches that are too small for them.
class RandomPrompts {
 public:
  explicit RandomPrompts(uint32_t seed) : random_(seed) {}

  uint32_t below(size_t limit) { return static_cast<uint32_t>(random_() % limit); }

  void start(engine::Harness& harness, uint32_t max_context) {
    std::vector<int32_t> prompt;
    if (!prompts_.empty() && below(3) > 0) prompt = prompts_[below(prompts_.size())];
    prompt.resize(below(prompt.size() + 1));
    for (uint32_t i = 1 + below(30); i > 0; --i) {
      prompt.push_back(static_cast<int32_t>(below(engine::FakeExecutor::kVocabSize)));
    }
    prompt.resize(std::min<size_t>(prompt.size(), max_context - 1));
    engine::GenerationParams params;
    params.max_tokens = 1 + below(20);
    params.cache_domain = below(4) == 0 ? "salt" : "";
    (void)harness.engine->start(prompt, params);
    prompts_.push_back(std::move(prompt));
  }

 private:
  std::mt19937_64 random_;
  std::vector<std::vector<int32_t>> prompts_;
};

// Counts on the way.
class CountingObserver final : public engine::CacheObserver {
 public:
  explicit CountingObserver(KvEventPublisher& publisher) : publisher_(publisher) {}

  void on_change(CacheChange change) override {
    ++num_changes;
    publisher_.on_change(std::move(change));
  }

  size_t num_changes = 0;

 private:
  KvEventPublisher& publisher_;
};

TEST(KvEvents, ASubscriberKnowsWhatTheEngineHolds) {
  const engine::HarnessOptions options{
      .max_sessions = 4, .num_kv_pages = 40, .num_cached_prefixes = 6};
  const auto publisher = publisher_of(local_options());
  Subscriber subscriber(zmq::socket_type::sub, publisher->endpoint());
  connect(*publisher, subscriber);
  const uint64_t num_before = publisher->counts().num_published;
  engine::Harness harness(options);
  CountingObserver observer(*publisher);
  harness.engine->observe_caches(&observer);
  RandomPrompts prompts(7);
  Router router;
  std::vector<Message> live;
  for (int step = 0; step < test::scaled(2000) && !HasFailure(); ++step) {
    if (prompts.below(3) == 0) prompts.start(harness, options.max_context);
    if (prompts.below(300) == 0) {
      harness.executor->next_error = Error{ErrorCode::kUnsupported, "injected"};
    }
    (void)harness.step();
    if (step % 10 != 0) continue;
    while (live.size() < observer.num_changes) {
      const auto frames = subscriber.receive();
      ASSERT_TRUE(frames) << step;
      live.push_back(Subscriber::message(*frames));
      ASSERT_EQ(live.back().number, num_before + live.size() - 1);
      router.read(live.back().batch());
    }
    EXPECT_EQ(router.texts(), engine::blocks_held(*harness.engine, options.page_positions)) << step;
  }
  EXPECT_GT(router.num_removed, test::at_least(300u));
  EXPECT_GT(router.num_cleared, test::at_least(1u));

  // Whoever comes late learns the same.
  wait_for_published(*publisher, num_before + observer.num_changes);
  const std::vector<Message> replayed = replay(publisher->replay_endpoint(), num_before);
  ASSERT_EQ(replayed.size(), observer.num_changes);
  EXPECT_TRUE(std::equal(live.begin(), live.end(), replayed.begin()));
  Router late;
  for (const Message& message : replayed) late.read(message.batch());
  EXPECT_EQ(late.texts(), engine::blocks_held(*harness.engine, options.page_positions));
}

}  // namespace
}  // namespace ultraspeed::server
