#include "server/exchange.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <random>

#include "net/sse.h"
#include "server/routes.h"

namespace ultraspeed::server {

using std::chrono::steady_clock;

void InFlight::add() {
  const std::lock_guard lock(mutex_);
  ++count_;
}

void InFlight::remove() {
  const std::lock_guard lock(mutex_);
  if (--count_ == 0) changed_.notify_all();
}

bool InFlight::wait_until_none(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return count_ == 0; });
}

namespace {

// For a line of the log, whatever the client sent: without the query, which may hold a secret.
std::string shown_route(const net::HttpRequest& request) {
  constexpr size_t kMaxBytes = 200;
  std::string route = fmt::format("{} {}", request.method, request.path()).substr(0, kMaxBytes);
  std::replace_if(
      route.begin(), route.end(), [](char c) { return (c < ' ' && c >= 0) || c == 0x7F; }, '?');
  return route;
}

// The models are asked for by clients of both worlds.
bool is_of_anthropic(const net::HttpRequest& request) {
  const std::string path = request.path();
  return path.starts_with(kMessagesPath) ||
         (path.starts_with(kModelsPath) && !request.header("anthropic-version").empty());
}

}  // namespace

Exchange::Exchange(const net::HttpRequest& request, std::string request_id,
                   std::shared_ptr<net::ResponseWriter> writer, std::shared_ptr<InFlight> in_flight,
                   std::shared_ptr<Metrics> metrics)
    : request_id_(request_id.empty() ? random_id() : std::move(request_id)),
      route_(shown_route(request)),
      is_anthropic_(is_of_anthropic(request)),
      writer_(std::move(writer)),
      in_flight_(std::move(in_flight)),
      metrics_(std::move(metrics)),
      begin_(steady_clock::now()),
      headers_{{"X-Request-Id", request_id_}} {
  if (is_anthropic_) headers_.push_back({"request-id", request_id_});
  in_flight_->add();
}

Exchange::~Exchange() {
  if (bill_ != nullptr) bill_->set_end(log);
  const auto now = steady_clock::now();
  const auto milliseconds = [](steady_clock::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
  };
  double first_ms = 0;
  double tokens_per_second = 0;
  if (log.completion_tokens > 0) first_ms = milliseconds(log.first_token - begin_);
  if (log.completion_tokens > 1) {
    tokens_per_second = 1000.0 * static_cast<double>(log.completion_tokens - 1) /
                        milliseconds(now - log.first_token);
  }
  spdlog::info(
      "id={} {} status={} prompt={} cached={} completion={} first_ms={:.1f} ms={:.1f} tok/s={:.1f} "
      "client={} end={}",
      request_id_, route_, status_, log.prompt_tokens, log.cached_tokens, log.completion_tokens,
      first_ms, milliseconds(now - begin_), tokens_per_second, client_, log.end);
  metrics_->count_response(status_);
  metrics_->count_end(log, begin_);
  in_flight_->remove();
}

void Exchange::count_tokens(size_t num_tokens, const std::optional<engine::VerifyCycle>& cycle,
                            GenerationLog::TimePoint* last_of_choice) {
  const auto now = steady_clock::now();
  metrics_->count_tokens(log, begin_, now, num_tokens, *last_of_choice);
  if (num_tokens > 0 && *last_of_choice == GenerationLog::TimePoint()) ++log.num_choices;
  *last_of_choice = now;
  if (log.first_token == steady_clock::time_point()) log.first_token = now;
  log.last_token = now;
  log.completion_tokens += num_tokens;
  if (!cycle) return;
  metrics_->count_cycle(*cycle);
  log.speculation.add(*cycle, static_cast<uint32_t>(num_tokens));
}

void Exchange::add_headers(std::vector<net::Header> headers) {
  headers_.insert(headers_.end(), std::make_move_iterator(headers.begin()),
                  std::make_move_iterator(headers.end()));
}

void Exchange::respond(net::HttpResponse response) {
  status_ = response.status;
  response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  writer_->send(std::move(response));
  if (status_ == 200) count_delivery();
}

void Exchange::write(std::string bytes) {
  writer_->write(std::move(bytes));
  count_delivery();
}

void Exchange::count_delivery() {
  if (bill_ != nullptr && bill_->show(log)) writer_->when_sent(Bill::when_accepted(bill_));
}

void Exchange::fail(const ApiError& error) {
  respond(is_anthropic_ ? messages_error_response(error, request_id_) : error_response(error));
}

void Exchange::start_event_stream(std::string_view keepalive) {
  status_ = 200;
  is_streaming_ = true;
  net::StreamHead head;
  head.headers = {{"Content-Type", std::string(net::kSseContentType)},
                  {"Cache-Control", "no-cache"},
                  {"X-Accel-Buffering", "no"}};
  head.headers.insert(head.headers.end(), headers_.begin(), headers_.end());
  head.keepalive = keepalive;
  writer_->start_stream(std::move(head));
}

void Exchange::upgrade(std::shared_ptr<net::WebSocketHandler> handler) {
  status_ = 101;
  writer_->upgrade(std::move(handler), headers_);
}

std::string random_id() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return fmt::format("{:016x}{:08x}", generator(), generator() & 0xFFFFFFFF);
}

std::string accepted_request_id(std::string_view header) {
  const bool is_visible =
      std::all_of(header.begin(), header.end(), [](char c) { return c > ' ' && c < 0x7F; });
  return header.size() <= 128 && is_visible ? std::string(header) : std::string();
}

}  // namespace ultraspeed::server
