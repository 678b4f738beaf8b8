// The WebSocket mode of /v1/responses (OpenAI API guide, "WebSocket mode"): each message is
// {"type":"response.create", ...}, a request's fields beside it; its answer comes as the events of
// a stream, one a message. Requests of one `stream_id` (or of none) are answered one after the
// other, those of several at once. A request that is wrong gets an error event and harms no other
// one. Used on the event-loop thread.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/web_socket.h"
#include "server/json_fields.h"
#include "server/socket_turn.h"

namespace ultraspeed::server {

class ResponsesSocket final : public net::WebSocketHandler,
                              public std::enable_shared_from_this<ResponsesSocket> {
 public:
  using TakeJson = std::function<void(ApiResult<Json>)>;
  // Of all connections together; of one alone the first request is always taken.
  struct WaitingBytes {
    size_t most = 0;
    size_t sum = 0;
  };
  struct Host {
    // Calls back, later, with what the text says. One at a time.
    std::function<void(std::string text, TakeJson take)> parse;
    // `size_bytes`: of the request's text.
    std::function<void(Json request, size_t size_bytes,
                       std::shared_ptr<net::ResponseWriter> writer)>
        answer;
    // The connection is gone; called once, with what has not been answered.
    std::function<void(std::vector<Json> waiting)> close;
  };
  static constexpr size_t kMaxRequests = 64;  // waiting and under way
  static constexpr size_t kMaxStreamIdBytes = 256;

  // `waiting`: the messages that wait for the answers before theirs. Parsed they take several times
  // their bytes.
  ResponsesSocket(Host host, std::shared_ptr<WaitingBytes> waiting)
      : host_(std::move(host)), waiting_(std::move(waiting)) {}

  void on_open(std::weak_ptr<net::WebSocket> socket) override;
  void on_message(std::string text) override;
  void on_close(net::CloseReason reason) override;

  // Closes as soon as no request is under way.
  void drain();

 private:
  struct Request {
    Json body;
    StreamId stream;
    size_t size_bytes = 0;  // of its message
  };
  struct Lane {
    std::deque<Request> waiting;
    bool is_answering = false;
    std::weak_ptr<SocketTurn> turn;  // under way
  };
  using Lanes = std::map<std::string, Lane>;  // by stream_id

  void count_waiting(size_t more, size_t less);
  void parse_next();
  void take(ApiResult<Json> json, size_t size_bytes);
  ApiStatus enqueue(Json body, size_t size_bytes, StreamId* stream);
  void answer_next(const std::string& stream_id);
  void end_turn(const std::string& stream_id);
  void fail(const ApiError& error, const StreamId& stream);
  void close_if_drained();
  void send(std::string message);

  const Host host_;
  const std::shared_ptr<WaitingBytes> waiting_;
  std::weak_ptr<net::WebSocket> socket_;
  std::deque<std::string> unread_;  // the first one is being parsed, if is_parsing_
  bool is_parsing_ = false;
  Lanes lanes_;               // those with a request
  size_t num_requests_ = 0;   // in all lanes, and unread
  size_t waiting_bytes_ = 0;  // of waiting_->sum
  bool is_draining_ = false;
  bool is_closed_ = false;
};

}  // namespace ultraspeed::server
