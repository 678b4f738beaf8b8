// Where a server listens: a TCP port, or a socket file. Internal to net/: includes Boost.
#pragma once

#include <sys/types.h>

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <string>

#include "base/result.h"
#include "net/http_server.h"
#include "net/stream.h"

namespace ultraspeed::net {

class Listener {
 public:
  using Acceptor = boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol>;

  explicit Listener(boost::asio::io_context& io) : acceptor_(io) {}
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Errors: those of HttpServer::listen().
  Status open(const HttpOptions& options);
  void close();  // and removes the socket file

  Acceptor& acceptor() { return acceptor_; }
  const std::string& address() const { return address_; }  // numeric; empty: a file
  uint16_t port() const { return port_; }

 private:
  Status open_tcp(const HttpOptions& options);
  Status open_file(const std::string& path);

  Acceptor acceptor_;
  std::string address_;
  uint16_t port_ = 0;
  std::string path_;  // of the file, while it is there
  ino_t inode_ = 0;   // of the same, which another server may have replaced
};

// The numeric address at the other end; empty for a socket file.
std::string peer_address(const StreamSocket& socket);

}  // namespace ultraspeed::net
