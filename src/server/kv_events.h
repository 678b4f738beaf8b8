// What the engine's caches hold, told to routers as vLLM tells it: batches of events over ZeroMQ,
// numbered, and once more to whoever has missed some. docs/fleet.md has the format.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "engine/cache_observer.h"

namespace ultraspeed::server {

struct KvEventOptions {
  std::string endpoint;              // of a PUB socket, as ZeroMQ writes it: tcp://*:5557
  std::string replay_endpoint = {};  // of a ROUTER socket; empty: nothing is told again
  std::string topic = {};
  // Bounds, each of changes that are still to be told and of batches that can be told again.
  size_t max_batches = 100'000;
  size_t max_bytes = size_t{64} << 20;
};

struct KvEventCounts {
  uint64_t num_published = 0;
  uint64_t num_dropped = 0;  // changes that found no room; their numbers are missing
};

// A KVEventBatch in MessagePack. `time_s`: since 1970.
std::vector<uint8_t> kv_event_batch(const engine::CacheChange& change, double time_s);

// A number as it is sent: 8 bytes, the highest first.
std::string kv_event_number(uint64_t number);

class KvEventPublisher final : public engine::CacheObserver {
 public:
  // Errors: kInvalidArgument (an endpoint that cannot be listened on), kIo.
  static Result<std::unique_ptr<KvEventPublisher>> open(const KvEventOptions& options);
  ~KvEventPublisher() override;  // tells what is left

  // Never waits for a subscriber.
  void on_change(engine::CacheChange change) override;

  KvEventCounts counts() const { return {num_published_.load(), num_dropped_.load()}; }

  // With the ports that "*" stood for.
  const std::string& endpoint() const { return endpoint_; }
  const std::string& replay_endpoint() const { return replay_endpoint_; }

 private:
  struct Waiting {
    uint64_t number = 0;
    double time_s = 0;
    size_t num_bytes = 0;
    engine::CacheChange change;
  };
  struct Sockets;
  struct Batches;

  KvEventPublisher(const KvEventOptions& options, std::unique_ptr<Sockets> sockets);
  static Result<std::unique_ptr<KvEventPublisher>> listen(const KvEventOptions& options);

  void wake() const;
  void run();
  bool take_turn();
  std::deque<Waiting> take_waiting(bool* is_stopping);
  void publish(const Waiting& waiting);
  void answer_replay();

  const KvEventOptions options_;
  std::string endpoint_, replay_endpoint_;
  std::atomic<uint64_t> num_published_ = 0, num_dropped_ = 0;

  std::mutex mutex_;  // guards what follows
  std::deque<Waiting> waiting_;
  size_t num_waiting_bytes_ = 0;
  uint64_t next_number_ = 0;
  bool is_stopping_ = false;

  std::unique_ptr<Sockets> sockets_;  // the thread's, but for the descriptor that wakes it
  std::unique_ptr<Batches> batches_;  // the thread's
  std::thread thread_;
};

}  // namespace ultraspeed::server
