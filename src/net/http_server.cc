// The acceptor, the event-loop thread and the table of connections.
#include "net/http_server.h"

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>
#include <unordered_set>

#include "base/check.h"
#include "net/connection.h"
#include "net/listener.h"
#include "net/tls.h"

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr milliseconds kTickInterval{50};

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(const HttpOptions& options, HttpHandler& handler)
      : options_(options),
        handler_(handler),
        loop_(std::make_shared<EventLoop>()),
        listener_(loop_->io),
        tick_timer_(loop_->io) {}
  ~AsioHttpServer() override { stop(0); }

  Status open();
  void start() override;
  Status reload_certificate() override;
  const std::string& address() const override { return listener_.address(); }
  uint16_t port() const override { return listener_.port(); }
  void post(std::function<void()> function) override;
  void stop(uint32_t flush_timeout_ms) override;

 private:
  void accept();
  bool make_room();
  void on_accept(const boost::system::error_code& error, StreamSocket socket);
  void tick();
  void begin_stop(Clock::time_point deadline);

  const HttpOptions options_;
  HttpHandler& handler_;
  std::shared_ptr<EventLoop> loop_;
  std::shared_ptr<asio::ssl::context> tls_;  // nullptr: plain
  Listener listener_;
  asio::steady_timer tick_timer_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  bool is_accepting_ = false;
  bool is_stopping_ = false;
  Clock::time_point stop_deadline_;
  std::thread thread_;
  std::atomic<bool> is_stopped_ = false;
};

// nullptr: without TLS.
Result<std::shared_ptr<asio::ssl::context>> tls_context(const HttpOptions& options) {
  if (options.certificate_file.empty() && options.key_file.empty()) return nullptr;
  return make_tls_context(options.certificate_file, options.key_file);
}

Status AsioHttpServer::open() {
  US_ASSIGN(tls_, tls_context(options_));
  return listener_.open(options_);
}

void AsioHttpServer::start() {
  US_CHECK(!thread_.joinable(), "start() was called twice");
  accept();
  tick();
  thread_ = std::thread([this] { loop_->io.run(); });
}

Status AsioHttpServer::reload_certificate() {
  US_ASSIGN(auto tls, tls_context(options_));
  post([this, tls = std::move(tls)] { tls_ = tls; });
  return {};
}

void AsioHttpServer::post(std::function<void()> function) {
  if (!is_stopped_.load()) asio::post(loop_->io, std::move(function));
}

void AsioHttpServer::accept() {
  is_accepting_ = true;
  listener_.acceptor().async_accept(
      [this](const boost::system::error_code& error, StreamSocket socket) {
        on_accept(error, std::move(socket));
      });
}

// Whether one more connection may be: of too many, that which has waited longest for a request,
// or for the rest of one, goes.
bool AsioHttpServer::make_room() {
  std::erase_if(connections_, [](const auto& connection) { return connection->is_closed(); });
  if (connections_.size() < options_.max_connections) return true;
  std::shared_ptr<Connection> oldest;
  for (const auto& connection : connections_) {
    const auto since = connection->waiting_since();
    if (since && (oldest == nullptr || *since < *oldest->waiting_since())) oldest = connection;
  }
  if (oldest == nullptr) return false;
  oldest->close(CloseReason::kServerStopped);
  connections_.erase(oldest);
  return true;
}

void AsioHttpServer::on_accept(const boost::system::error_code& error, StreamSocket socket) {
  is_accepting_ = false;
  if (is_stopping_) return;
  if (error) return;                  // out of file descriptors, mostly; tick() tries again
  boost::system::error_code ignored;  // a socket file has no such option
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  std::string peer = peer_address(socket);
  auto connection = std::make_shared<Connection>(loop_, make_stream(std::move(socket), tls_.get()),
                                                 std::move(peer), options_, handler_);
  const bool has_room = connections_.size() < options_.max_connections || make_room();
  connections_.insert(connection);
  if (has_room) {
    connection->start();
  } else {
    connection->refuse(503, "the server has too many connections");
  }
  accept();
}

void AsioHttpServer::tick() {
  const auto now = Clock::now();
  // A handler called from a connection's tick() may not change the table, so a copy is not needed.
  for (const auto& connection : connections_) connection->tick(now);
  std::erase_if(connections_, [](const auto& connection) { return connection->is_closed(); });
  if (is_stopping_) {
    if (!connections_.empty() && now >= stop_deadline_) {
      for (const auto& connection : connections_) connection->close(CloseReason::kServerStopped);
      connections_.clear();
    }
    if (connections_.empty()) return loop_->io.stop();
  } else if (!is_accepting_) {
    accept();
  }
  tick_timer_.expires_after(kTickInterval);
  tick_timer_.async_wait([this](const boost::system::error_code&) { tick(); });
}

void AsioHttpServer::begin_stop(Clock::time_point deadline) {
  is_stopping_ = true;
  stop_deadline_ = deadline;
  listener_.close();
  for (const auto& connection : connections_) connection->close_when_idle();
}

void AsioHttpServer::stop(uint32_t flush_timeout_ms) {
  if (is_stopped_.load()) return;
  if (thread_.joinable()) {
    const auto deadline = Clock::now() + milliseconds(flush_timeout_ms);
    asio::post(loop_->io, [this, deadline] { begin_stop(deadline); });
    thread_.join();
  }
  is_stopped_.store(true);
  // Functions that were posted last may hold writers, which hold the loop: run them out.
  loop_->io.restart();
  loop_->io.poll();
}

}  // namespace

Result<std::string> HttpServer::check_address(const HttpOptions& options) {
  US_TRY(tls_context(options));
  asio::io_context io;
  Listener listener(io);
  US_TRY(listener.open(options));
  return listener.address();
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options,
                                                       HttpHandler& handler) {
  auto server = std::make_unique<AsioHttpServer>(options, handler);
  US_TRY(server->open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace ultraspeed::net
