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

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;

constexpr milliseconds kTickInterval{50};

boost::system::error_code try_listen(const tcp::endpoint& endpoint, tcp::acceptor* acceptor) {
  boost::system::error_code error;
  if (acceptor->is_open()) acceptor->close(error);
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
  return error;
}

// Listens on the first of the host's addresses that allows it.
Status listen_on(const HttpOptions& options, asio::io_context* io, tcp::acceptor* acceptor) {
  tcp::resolver resolver(*io);
  boost::system::error_code error;
  const auto endpoints =
      resolver.resolve(options.host, fmt::to_string(options.port), tcp::resolver::passive, error);
  if (error) {
    return make_error(ErrorCode::kInvalidArgument, "host '{}' is not an address or known name: {}",
                      options.host, error.message());
  }
  for (const auto& endpoint : endpoints) {
    error = try_listen(endpoint, acceptor);
    if (!error) return {};
  }
  return make_error(ErrorCode::kIo, "cannot listen on {}:{}: {}; choose another host or port",
                    options.host, options.port, error.message());
}

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(const HttpOptions& options, HttpHandler& handler)
      : options_(options),
        handler_(handler),
        loop_(std::make_shared<EventLoop>()),
        acceptor_(loop_->io),
        tick_timer_(loop_->io) {}
  ~AsioHttpServer() override { stop(0); }

  Status bind();
  void start() override;
  const std::string& address() const override { return address_; }
  uint16_t port() const override { return port_; }
  void post(std::function<void()> function) override;
  void stop(uint32_t flush_timeout_ms) override;

 private:
  void accept();
  void on_accept(const boost::system::error_code& error, tcp::socket socket);
  void tick();
  void begin_stop(Clock::time_point deadline);

  const HttpOptions options_;
  HttpHandler& handler_;
  std::shared_ptr<EventLoop> loop_;
  tcp::acceptor acceptor_;
  asio::steady_timer tick_timer_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  bool is_accepting_ = false;
  bool is_stopping_ = false;
  Clock::time_point stop_deadline_;
  std::string address_;
  uint16_t port_ = 0;
  std::thread thread_;
  std::atomic<bool> is_stopped_ = false;
};

Status AsioHttpServer::bind() {
  US_TRY(listen_on(options_, &loop_->io, &acceptor_));
  boost::system::error_code error;
  const tcp::endpoint local = acceptor_.local_endpoint(error);
  address_ = local.address().to_string();
  port_ = local.port();
  return {};
}

void AsioHttpServer::start() {
  US_CHECK(!thread_.joinable(), "start() was called twice");
  accept();
  tick();
  thread_ = std::thread([this] { loop_->io.run(); });
}

void AsioHttpServer::post(std::function<void()> function) {
  if (!is_stopped_.load()) asio::post(loop_->io, std::move(function));
}

void AsioHttpServer::accept() {
  is_accepting_ = true;
  acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
    on_accept(error, std::move(socket));
  });
}

void AsioHttpServer::on_accept(const boost::system::error_code& error, tcp::socket socket) {
  is_accepting_ = false;
  if (is_stopping_) return;
  if (error) return;  // out of file descriptors, mostly; tick() tries again
  auto connection = std::make_shared<Connection>(loop_, std::move(socket), options_, handler_);
  const bool is_full = connections_.size() >= options_.max_connections;
  connections_.insert(connection);
  if (!is_full) {
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
  boost::system::error_code ignored;
  acceptor_.close(ignored);
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
  asio::io_context io;
  tcp::acceptor acceptor(io);
  US_TRY(listen_on(options, &io, &acceptor));
  boost::system::error_code error;
  return acceptor.local_endpoint(error).address().to_string();
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options,
                                                       HttpHandler& handler) {
  auto server = std::make_unique<AsioHttpServer>(options, handler);
  US_TRY(server->bind());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace ultraspeed::net
