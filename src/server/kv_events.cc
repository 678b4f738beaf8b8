#include "server/kv_events.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "base/check.h"

namespace ultraspeed::server {
namespace {

using nlohmann::ordered_json;  // of events, whose type comes first

// The caches' own memory, whatever the device: routers tell it apart from slower storage.
constexpr const char* kMedium = "GPU";
constexpr size_t kNumberBytes = 8;
constexpr uint64_t kEndOfReplay = ~uint64_t{0};
constexpr int64_t kMaxRequestBytes = 64;

// All fields of vLLM's that have no default there.
ordered_json stored_event(const engine::StoredBlocks& stored) {
  ordered_json event = {
      {"type", "BlockStored"},
      {"block_hashes", stored.hashes},
      {"parent_block_hash", stored.parent ? ordered_json(*stored.parent) : ordered_json()},
      {"token_ids", stored.tokens},
      {"block_size", stored.tokens.size() / stored.hashes.size()},
      {"lora_id", nullptr},
      {"medium", kMedium},
      {"lora_name", nullptr}};
  if (stored.domain.empty() || stored.parent) return event;
  // What the first block's name depends on beside its tokens: the request's cache_salt.
  ordered_json extra_keys = ordered_json::array({ordered_json::array({stored.domain})});
  while (extra_keys.size() < stored.hashes.size()) extra_keys.push_back(nullptr);
  event["extra_keys"] = std::move(extra_keys);
  return event;
}

size_t num_bytes_of(const engine::CacheChange& change) {
  constexpr size_t kOverhead = 256;
  size_t size = kOverhead + change.removed.size() * sizeof(engine::BlockHash);
  for (const engine::StoredBlocks& stored : change.stored) {
    size += kOverhead + stored.domain.size() + stored.hashes.size() * sizeof(engine::BlockHash) +
            stored.tokens.size() * sizeof(int32_t);
  }
  return size;
}

double now_s() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since_epoch).count();
}

Status bind_socket(const char* flag, const std::string& endpoint, zmq::socket_t* socket) {
  try {
    socket->set(zmq::sockopt::linger, 0);
    socket->bind(endpoint);
  } catch (const zmq::error_t& error) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} {}: {}; expected an endpoint to listen on, such as tcp://*:5557", flag,
                      endpoint, error.what());
  }
  return {};
}

}  // namespace

std::string kv_event_number(uint64_t number) {
  std::string bytes(kNumberBytes, '\0');
  for (size_t i = 0; i < kNumberBytes; ++i) {
    bytes[kNumberBytes - 1 - i] = static_cast<char>(number >> (8 * i));
  }
  return bytes;
}

std::vector<uint8_t> kv_event_batch(const engine::CacheChange& change, double time_s) {
  ordered_json events = ordered_json::array();
  if (change.is_cleared) events.push_back({{"type", "AllBlocksCleared"}});
  for (const engine::StoredBlocks& stored : change.stored) events.push_back(stored_event(stored));
  if (!change.removed.empty()) {
    events.push_back(
        {{"type", "BlockRemoved"}, {"block_hashes", change.removed}, {"medium", kMedium}});
  }
  constexpr int kDataParallelRank = 0;
  return ordered_json::to_msgpack(
      ordered_json::array({time_s, std::move(events), kDataParallelRank}));
}

struct KvEventPublisher::Sockets {
  Sockets() : wake_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    US_CHECK(wake_fd >= 0, "eventfd: errno {}", errno);
  }
  ~Sockets() { close(wake_fd); }
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;

  zmq::context_t context;
  zmq::socket_t events{context, zmq::socket_type::pub};
  zmq::socket_t replay{context, zmq::socket_type::router};
  const int wake_fd;
};

struct KvEventPublisher::Batches {
  struct Batch {
    uint64_t number = 0;
    zmq::message_t payload;  // copies share its bytes
  };

  std::deque<Batch> kept;
  size_t num_bytes = 0;
};

Result<std::unique_ptr<KvEventPublisher>> KvEventPublisher::open(const KvEventOptions& options) {
  try {
    return listen(options);
  } catch (const zmq::error_t& error) {
    return make_error(ErrorCode::kIo, "ZeroMQ has no sockets for --kv-events: {}", error.what());
  }
}

Result<std::unique_ptr<KvEventPublisher>> KvEventPublisher::listen(const KvEventOptions& options) {
  auto sockets = std::make_unique<Sockets>();
  // Of messages to a subscriber that falls behind; it misses the rest.
  const auto limit = static_cast<int>(options.max_batches);
  sockets->events.set(zmq::sockopt::sndhwm, limit);
  sockets->replay.set(zmq::sockopt::sndhwm, limit + 1);
  sockets->replay.set(zmq::sockopt::maxmsgsize, kMaxRequestBytes);
  US_TRY(bind_socket("--kv-events", options.endpoint, &sockets->events));
  if (!options.replay_endpoint.empty()) {
    US_TRY(bind_socket("--kv-events-replay", options.replay_endpoint, &sockets->replay));
  }
  return std::unique_ptr<KvEventPublisher>(new KvEventPublisher(options, std::move(sockets)));
}

KvEventPublisher::KvEventPublisher(const KvEventOptions& options, std::unique_ptr<Sockets> sockets)
    : options_(options),
      endpoint_(sockets->events.get(zmq::sockopt::last_endpoint)),
      replay_endpoint_(sockets->replay.get(zmq::sockopt::last_endpoint)),
      sockets_(std::move(sockets)),
      batches_(std::make_unique<Batches>()),
      thread_([this] { run(); }) {}

KvEventPublisher::~KvEventPublisher() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake();
  thread_.join();
}

void KvEventPublisher::wake() const {
  const uint64_t one = 1;
  // It fails where the counter is full: awake already.
  [[maybe_unused]] const ssize_t size = write(sockets_->wake_fd, &one, sizeof one);
}

void KvEventPublisher::on_change(engine::CacheChange change) {
  const size_t num_bytes = num_bytes_of(change);
  {
    const std::lock_guard lock(mutex_);
    const uint64_t number = next_number_++;
    if (waiting_.size() == options_.max_batches ||
        num_waiting_bytes_ + num_bytes > options_.max_bytes) {
      ++num_dropped_;
      return;
    }
    num_waiting_bytes_ += num_bytes;
    waiting_.push_back({number, now_s(), num_bytes, std::move(change)});
  }
  wake();
}

void KvEventPublisher::run() {
  try {
    while (take_turn()) {
    }
  } catch (const std::exception& error) {  // no memory; what comes is counted as dropped
    spdlog::error("no more KV events: {}", error.what());
  }
}

// Until there is something to do, and that; false: the publisher ends.
bool KvEventPublisher::take_turn() {
  std::array<zmq::pollitem_t, 2> items = {
      {{nullptr, sockets_->wake_fd, ZMQ_POLLIN, 0}, {sockets_->replay.handle(), 0, ZMQ_POLLIN, 0}}};
  if (zmq_poll(items.data(), static_cast<int>(items.size()), -1) < 0) {
    US_CHECK(zmq_errno() == EINTR, "zmq_poll: {}", zmq_strerror(zmq_errno()));
    return true;
  }
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = read(sockets_->wake_fd, &count, sizeof count);
  bool is_stopping = false;
  for (const Waiting& waiting : take_waiting(&is_stopping)) publish(waiting);
  if ((items[1].revents & ZMQ_POLLIN) != 0) answer_replay();
  return !is_stopping;
}

std::deque<KvEventPublisher::Waiting> KvEventPublisher::take_waiting(bool* is_stopping) {
  const std::lock_guard lock(mutex_);
  *is_stopping = is_stopping_;
  num_waiting_bytes_ = 0;
  return std::exchange(waiting_, {});
}

void KvEventPublisher::publish(const Waiting& waiting) {
  const std::vector<uint8_t> bytes = kv_event_batch(waiting.change, waiting.time_s);
  zmq::message_t payload(bytes.data(), bytes.size());
  zmq::message_t copy;
  copy.copy(payload);
  const std::string number = kv_event_number(waiting.number);
  sockets_->events.send(zmq::buffer(options_.topic), zmq::send_flags::sndmore);
  sockets_->events.send(zmq::buffer(number), zmq::send_flags::sndmore);
  sockets_->events.send(copy, zmq::send_flags::none);  // PUB waits for nobody
  ++num_published_;
  if (options_.replay_endpoint.empty()) return;
  std::deque<Batches::Batch>& kept = batches_->kept;
  batches_->num_bytes += payload.size();
  kept.push_back({waiting.number, std::move(payload)});
  while (kept.size() > options_.max_batches || batches_->num_bytes > options_.max_bytes) {
    batches_->num_bytes -= kept.front().payload.size();
    kept.pop_front();
  }
}

// A request is the number to begin with, behind an empty frame; what is none gets no answer.
// The answer is that of vLLM since 0.26: as its subscribers get batches, and a last one of -1.
void KvEventPublisher::answer_replay() {
  std::vector<zmq::message_t> request;
  const auto num_frames =
      zmq::recv_multipart(sockets_->replay, std::back_inserter(request), zmq::recv_flags::dontwait);
  if (num_frames != 3 || request[1].size() != 0 || request[2].size() != kNumberBytes) return;
  const std::string_view begin = request[2].to_string_view();  // as text it has the same order
  const auto answer = [&](std::string_view topic, uint64_t number, zmq::message_t payload) {
    zmq::message_t client;
    client.copy(request[0]);
    sockets_->replay.send(client, zmq::send_flags::sndmore);
    sockets_->replay.send(zmq::const_buffer(), zmq::send_flags::sndmore);
    sockets_->replay.send(zmq::buffer(topic), zmq::send_flags::sndmore);
    sockets_->replay.send(zmq::buffer(kv_event_number(number)), zmq::send_flags::sndmore);
    sockets_->replay.send(payload, zmq::send_flags::none);  // ROUTER waits for nobody
  };
  for (Batches::Batch& batch : batches_->kept) {
    if (kv_event_number(batch.number) < begin) continue;
    zmq::message_t payload;
    payload.copy(batch.payload);
    answer(options_.topic, batch.number, std::move(payload));
  }
  answer({}, kEndOfReplay, zmq::message_t());
}

}  // namespace ultraspeed::server
