// A connected byte stream: a TCP or Unix socket, plain or under TLS. Internal to net/: this header
// includes Boost.
#pragma once

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <functional>
#include <memory>

namespace boost::asio::ssl {
class context;
}

namespace ultraspeed::net {

using StreamSocket = boost::asio::generic::stream_protocol::socket;

// One read and one write may be under way at a time. Handlers keep alive what owns the stream.
class Stream {
 public:
  using Handler = std::function<void(const boost::system::error_code&, size_t)>;

  virtual ~Stream() = default;
  virtual bool needs_handshake() const = 0;  // before anything is read or written
  virtual void handshake(std::function<void(const boost::system::error_code&)> handler) = 0;
  virtual void read_some(boost::asio::mutable_buffer buffer, Handler handler) = 0;
  virtual void write_some(boost::asio::const_buffer buffer, Handler handler) = 0;
  // Tells the peer that nothing more comes. REQUIRES: no write is under way.
  virtual void end_sending(std::function<void()> handler) = 0;
  virtual void close() = 0;  // operations under way fail
};

// tls: nullptr for a plain stream.
std::unique_ptr<Stream> make_stream(StreamSocket socket, boost::asio::ssl::context* tls);

}  // namespace ultraspeed::net
