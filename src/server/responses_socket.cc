#include "server/responses_socket.h"

#include <fmt/format.h>

#include <utility>

#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kCreate = "response.create";

ApiError too_many_requests(std::string_view what) {
  ApiError error = from_error(
      Error{ErrorCode::kOutOfMemory,
            fmt::format("{} wait on this connection for the answers before theirs.", what)});
  error.code = "rate_limit_exceeded";
  return error;
}

}  // namespace

void ResponsesSocket::on_open(std::weak_ptr<net::WebSocket> socket) {
  socket_ = std::move(socket);
  close_if_drained();
}

void ResponsesSocket::on_message(std::string text) {
  if (num_requests_ == kMaxRequests) {
    return fail(too_many_requests(fmt::format("{} requests", kMaxRequests)), {});
  }
  if (num_requests_ > 0 && waiting_->sum + text.size() > waiting_->most) {
    return fail(too_many_requests("Too many bytes of requests"), {});
  }
  ++num_requests_;
  count_waiting(text.size(), 0);
  unread_.push_back(std::move(text));
  parse_next();
}

void ResponsesSocket::count_waiting(size_t more, size_t less) {
  waiting_bytes_ += more - less;
  waiting_->sum += more - less;
}

// One after the other, so that they keep their order.
void ResponsesSocket::parse_next() {
  if (is_parsing_ || unread_.empty()) return;
  is_parsing_ = true;
  const size_t size_bytes = unread_.front().size();
  host_.parse(std::move(unread_.front()),
              [weak = weak_from_this(), size_bytes](ApiResult<Json> json) {
                const auto self = weak.lock();
                if (self != nullptr) self->take(std::move(json), size_bytes);
              });
}

void ResponsesSocket::take(ApiResult<Json> json, size_t size_bytes) {
  if (is_closed_) return;
  unread_.pop_front();
  is_parsing_ = false;
  StreamId stream;
  ApiStatus status;
  if (json) {
    status = enqueue(*std::move(json), size_bytes, &stream);
  } else {
    status = tl::unexpected(json.error());
  }
  if (!status) {
    --num_requests_;
    count_waiting(0, size_bytes);
    fail(status.error(), stream);
    close_if_drained();
  }
  parse_next();
}

ApiStatus ResponsesSocket::enqueue(Json body, size_t size_bytes, StreamId* stream) {
  const Fields fields(body);
  std::string stream_id;
  US_TRY(fields.read("stream_id", &stream_id));
  if (stream_id.size() > kMaxStreamIdBytes) {
    return invalid_field("stream_id", fmt::format("'stream_id' has {} bytes; at most {} may be.",
                                                  stream_id.size(), kMaxStreamIdBytes));
  }
  if (!stream_id.empty()) {
    stream->member = R"(,"stream_id":)";
    append_json_string(stream->member, stream_id);
  }
  std::string type;
  US_TRY(fields.read("type", &type));
  if (type != kCreate) {
    return invalid_field("type", fmt::format("'type' is '{}'; it must be '{}'.", type, kCreate));
  }
  body.erase("type");
  body.erase("stream_id");
  body["stream"] = true;
  lanes_[stream_id].waiting.push_back({std::move(body), *stream, size_bytes});
  answer_next(stream_id);
  return {};
}

void ResponsesSocket::answer_next(const std::string& stream_id) {
  const auto found = lanes_.find(stream_id);
  Lane& lane = found->second;
  if (lane.is_answering) return;
  if (lane.waiting.empty()) {
    lanes_.erase(found);
    return close_if_drained();
  }
  Request request = std::move(lane.waiting.front());
  lane.waiting.pop_front();
  count_waiting(0, request.size_bytes);
  lane.is_answering = true;
  const auto turn = std::make_shared<SocketTurn>(
      std::move(request.stream),
      [weak = weak_from_this()](std::string message) {
        if (const auto self = weak.lock()) self->send(std::move(message));
      },
      [socket = socket_](std::function<void()> callback) {
        if (const auto open = socket.lock()) open->when_sent(std::move(callback));
      },
      [weak = weak_from_this(), stream_id] {
        if (const auto self = weak.lock()) self->end_turn(stream_id);
      });
  lane.turn = turn;
  host_.answer(std::move(request.body), request.size_bytes, turn);
}

void ResponsesSocket::end_turn(const std::string& stream_id) {
  --num_requests_;
  lanes_[stream_id].is_answering = false;
  answer_next(stream_id);
}

void ResponsesSocket::fail(const ApiError& error, const StreamId& stream) {
  send(socket_error(error_response(error), stream));
}

void ResponsesSocket::send(std::string message) {
  if (const auto socket = socket_.lock()) socket->send(std::move(message));
}

void ResponsesSocket::drain() {
  is_draining_ = true;
  close_if_drained();
}

void ResponsesSocket::close_if_drained() {
  if (!is_draining_ || num_requests_ > 0) return;
  const auto socket = socket_.lock();
  if (socket != nullptr) {
    socket->close(net::CloseCode::kGoingAway, "the server is shutting down");
  }
}

void ResponsesSocket::on_close(net::CloseReason reason) {
  is_closed_ = true;
  unread_.clear();
  count_waiting(0, waiting_bytes_);
  std::vector<std::shared_ptr<SocketTurn>> turns;
  std::vector<Json> waiting;
  for (auto& [stream_id, lane] : lanes_) {
    if (auto turn = lane.turn.lock()) turns.push_back(std::move(turn));
    for (Request& request : lane.waiting) waiting.push_back(std::move(request.body));
  }
  lanes_.clear();
  for (const auto& turn : turns) turn->close(reason);
  host_.close(std::move(waiting));
}

}  // namespace ultraspeed::server
