#include "net/listener.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cerrno>
#include <cstring>

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Endpoint = asio::generic::stream_protocol::endpoint;
using boost::system::error_code;

constexpr size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr mode_t kOwnerOnly = 0600;

// An endpoint of TCP; anything else is 0.0.0.0:0.
tcp::endpoint tcp_endpoint(const Endpoint& endpoint) {
  tcp::endpoint result;
  const int family = endpoint.data()->sa_family;
  if (family != AF_INET && family != AF_INET6) return result;
  std::memcpy(result.data(), endpoint.data(), endpoint.size());
  result.resize(endpoint.size());
  return result;
}

error_code try_listen(const tcp::endpoint& endpoint, Listener::Acceptor* acceptor) {
  error_code error;
  if (acceptor->is_open()) acceptor->close(error);
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
  return error;
}

// A server that was killed leaves its file, on which nobody listens.
Status remove_stale_file(const std::string& path, const asio::local::stream_protocol::endpoint& at,
                         const asio::any_io_executor& executor) {
  struct stat status = {};
  if (lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return make_error(ErrorCode::kIo, "{}: is there and no socket; choose another path", path);
  }
  asio::local::stream_protocol::socket probe(executor);
  error_code error;
  probe.connect(at, error);
  if (error != asio::error::connection_refused) {
    return make_error(ErrorCode::kIo, "{}: {}; choose another path", path,
                      error ? error.message() : "another server listens there");
  }
  if (unlink(path.c_str()) == 0) return {};
  return make_error(ErrorCode::kIo, "{}: cannot be replaced: {}", path,
                    std::generic_category().message(errno));
}

}  // namespace

Status Listener::open(const HttpOptions& options) {
  return options.unix_socket.empty() ? open_tcp(options) : open_file(options.unix_socket);
}

// On the first of the host's addresses that allows it.
Status Listener::open_tcp(const HttpOptions& options) {
  tcp::resolver resolver(acceptor_.get_executor());
  error_code error;
  const auto endpoints =
      resolver.resolve(options.host, fmt::to_string(options.port), tcp::resolver::passive, error);
  if (error) {
    return make_error(ErrorCode::kInvalidArgument, "host '{}' is not an address or known name: {}",
                      options.host, error.message());
  }
  for (const auto& endpoint : endpoints) {
    error = try_listen(endpoint, &acceptor_);
    if (error) continue;
    const tcp::endpoint local = tcp_endpoint(acceptor_.local_endpoint(error));
    address_ = local.address().to_string();
    port_ = local.port();
    return {};
  }
  return make_error(ErrorCode::kIo, "cannot listen on {}:{}: {}; choose another host or port",
                    options.host, options.port, error.message());
}

// The file is its owner's before anybody can connect: that takes listen().
Status Listener::open_file(const std::string& path) {
  if (path.size() > kMaxPathBytes) {
    return make_error(ErrorCode::kInvalidArgument, "{}: a socket's path has {} bytes at most", path,
                      kMaxPathBytes);
  }
  const asio::local::stream_protocol::endpoint endpoint(path);
  US_TRY(remove_stale_file(path, endpoint, acceptor_.get_executor()));
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.bind(endpoint, error);
  struct stat status = {};
  if (!error && (chmod(path.c_str(), kOwnerOnly) != 0 || lstat(path.c_str(), &status) != 0)) {
    error = {errno, boost::system::generic_category()};
  }
  if (!error) {
    path_ = path;
    inode_ = status.st_ino;
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
  }
  if (!error) return {};
  return make_error(ErrorCode::kIo, "cannot listen on {}: {}", path, error.message());
}

void Listener::close() {
  error_code ignored;
  acceptor_.close(ignored);
  struct stat status = {};
  const bool is_ours =
      !path_.empty() && lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_;
  if (is_ours) unlink(path_.c_str());
  path_.clear();
}

std::string peer_address(const StreamSocket& socket) {
  error_code error;
  const Endpoint endpoint = socket.remote_endpoint(error);
  if (error || endpoint.data()->sa_family == AF_UNIX) return {};
  const asio::ip::address address = tcp_endpoint(endpoint).address();
  const bool is_mapped = address.is_v6() && address.to_v6().is_v4_mapped();
  return is_mapped ? asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string()
                   : address.to_string();
}

}  // namespace ultraspeed::net
