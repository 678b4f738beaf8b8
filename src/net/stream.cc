#include "net/stream.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;

class PlainStream final : public Stream {
 public:
  explicit PlainStream(StreamSocket socket) : socket_(std::move(socket)) {}

  bool needs_handshake() const override { return false; }
  void handshake(std::function<void(const boost::system::error_code&)> handler) override {
    asio::post(socket_.get_executor(), [handler = std::move(handler)] { handler({}); });
  }
  void read_some(asio::mutable_buffer buffer, Handler handler) override {
    socket_.async_read_some(asio::mutable_buffers_1(buffer), std::move(handler));
  }
  void write_some(asio::const_buffer buffer, Handler handler) override {
    socket_.async_write_some(asio::const_buffers_1(buffer), std::move(handler));
  }
  void end_sending(std::function<void()> handler) override {
    boost::system::error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
    asio::post(socket_.get_executor(), std::move(handler));
  }
  void close() override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  StreamSocket socket_;
};

class TlsStream final : public Stream {
 public:
  TlsStream(StreamSocket socket, ssl::context& tls) : stream_(std::move(socket), tls) {}

  bool needs_handshake() const override { return true; }
  void handshake(std::function<void(const boost::system::error_code&)> handler) override {
    stream_.async_handshake(ssl::stream_base::server, std::move(handler));
  }
  void read_some(asio::mutable_buffer buffer, Handler handler) override {
    stream_.async_read_some(asio::mutable_buffers_1(buffer), std::move(handler));
  }
  void write_some(asio::const_buffer buffer, Handler handler) override {
    stream_.async_write_some(asio::const_buffers_1(buffer), std::move(handler));
  }
  void end_sending(std::function<void()> handler) override {
    stream_.async_shutdown(
        [handler = std::move(handler)](const boost::system::error_code&) { handler(); });
  }
  void close() override {
    boost::system::error_code ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  ssl::stream<StreamSocket> stream_;
};

}  // namespace

std::unique_ptr<Stream> make_stream(StreamSocket socket, ssl::context* tls) {
  if (tls == nullptr) return std::make_unique<PlainStream>(std::move(socket));
  return std::make_unique<TlsStream>(std::move(socket), *tls);
}

}  // namespace ultraspeed::net
