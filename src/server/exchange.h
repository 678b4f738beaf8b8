// One HTTP request and its answer: the request id, the log line, and the count of requests under
// way that a shutdown waits for. Used on the event-loop thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/gate.h"
#include "net/http_server.h"
#include "server/api_error.h"
#include "server/bill.h"
#include "server/generation_log.h"
#include "server/metrics.h"

namespace ultraspeed::server {

// How many exchanges exist. Any thread.
class InFlight {
 public:
  void add();
  void remove();
  bool wait_until_none(std::chrono::milliseconds timeout);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t count_ = 0;
};

// Below it answers have Anthropic's form.
inline constexpr std::string_view kMessagesPath = "/v1/messages";

class Exchange {
 public:
  // request_id: from the X-Request-Id header, or empty for a new one.
  Exchange(const net::HttpRequest& request, std::string request_id,
           std::shared_ptr<net::ResponseWriter> writer, std::shared_ptr<InFlight> in_flight,
           std::shared_ptr<Metrics> metrics);
  ~Exchange();  // logs and counts
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const std::string& request_id() const { return request_id_; }
  // What the answer's head has besides its own.
  void add_headers(std::vector<net::Header> headers);
  void set_client(std::string address) { client_ = std::move(address); }  // for the log
  bool is_anthropic() const { return is_anthropic_; }
  // From now on what is written, or the whole answer, counts as what the log says.
  void set_bill(std::shared_ptr<Bill> bill) { bill_ = std::move(bill); }
  // Kept as long as the exchange.
  void hold(std::shared_ptr<const void> place) { place_ = std::move(place); }
  std::chrono::steady_clock::time_point arrival() const { return begin_; }

  void respond(net::HttpResponse response);
  void fail(const ApiError& error);  // in the form of the route's API
  void start_event_stream(std::string_view keepalive);
  // Instead of an answer. REQUIRES: the request wants it.
  void upgrade(std::shared_ptr<net::WebSocketHandler> handler);
  bool is_streaming() const { return is_streaming_; }
  void write(std::string bytes);
  // Of a stream that fails: shows nothing that would be billed.
  void write_error(std::string bytes) { writer_->write(std::move(bytes)); }
  void finish() { writer_->finish(); }
  void on_close(std::function<void(net::CloseReason)> callback) {
    writer_->on_close(std::move(callback));
  }

  // A step gave a choice so many tokens, in a decode step with a cycle. 0: the prompt of one that
  // wants none is computed. `last_of_choice`: when it got tokens, at first the epoch; kept up to
  // date.
  void count_tokens(size_t num_tokens, const std::optional<engine::VerifyCycle>& cycle,
                    GenerationLog::TimePoint* last_of_choice);

  // Whose prompts may share what caches hold; empty: everybody's.
  std::string cache_domain;
  // With accounts: who asks, and with which key (empty: in a session of the page).
  access::Identity identity;
  std::string api_key;
  // When an answer is cut, whatever its request says: the end of a chat session.
  std::optional<std::chrono::steady_clock::time_point> latest_end;
  GenerationLog log;

 private:
  void count_delivery();

  const std::string request_id_;
  const std::string route_;  // "POST /v1/completions"
  const bool is_anthropic_;  // asked and answered as Anthropic's API has it
  const std::shared_ptr<net::ResponseWriter> writer_;
  const std::shared_ptr<InFlight> in_flight_;
  const std::shared_ptr<Metrics> metrics_;
  const std::chrono::steady_clock::time_point begin_;
  std::vector<net::Header> headers_;  // of every answer
  std::string client_ = "-";
  std::shared_ptr<const void> place_;
  std::shared_ptr<Bill> bill_;
  unsigned status_ = 0;  // 0: no answer was sent
  bool is_streaming_ = false;
};

// 24 random hexadecimal digits.
std::string random_id();
// A client's X-Request-Id is used if it is 1 to 128 visible ASCII characters; else empty.
std::string accepted_request_id(std::string_view header);

}  // namespace ultraspeed::server
