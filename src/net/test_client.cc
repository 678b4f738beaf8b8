#include "net/test_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

#include "support/scale.h"

namespace ultraspeed::net {
namespace {

constexpr int kTimeoutSeconds = 10 * test::kTrialDivisor;

}  // namespace

TestClient::TestClient(uint16_t port, int receive_buffer_bytes)
    : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval timeout{kTimeoutSeconds, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ADD_FAILURE() << "cannot connect to port " << port;
  }
}

TestClient::TestClient(const std::string& socket_path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
  const timeval timeout{kTimeoutSeconds, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ADD_FAILURE() << "cannot connect to " << socket_path;
  }
}

TestClient::~TestClient() {
  close();
}

void TestClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void TestClient::reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

// A server may close before it has read everything, so a failed send is not a test failure.
void TestClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(size));
  }
}

void TestClient::get(std::string_view target) {
  send(fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target));
}

void TestClient::post(std::string_view target, std::string_view body, std::string_view headers) {
  send(fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{}", target,
                   headers, body.size(), body));
}

bool TestClient::fill() {
  char buffer[16384];
  const ssize_t size = recv(fd_, buffer, sizeof buffer, 0);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    has_timed_out_ = true;
    ADD_FAILURE() << "no answer in " << kTimeoutSeconds << " s; received so far: " << input_;
  }
  if (size <= 0) return false;
  input_.append(buffer, static_cast<size_t>(size));
  return true;
}

std::string TestClient::take(size_t size) {
  while (input_.size() < size && fill()) {
  }
  std::string out = input_.substr(0, size);
  input_.erase(0, size);
  return out;
}

std::string TestClient::read_line() {
  size_t end;
  while ((end = input_.find("\r\n")) == std::string::npos && fill()) {
  }
  if (end == std::string::npos) end = input_.size();
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 2);
  return line;
}

TestResponse TestClient::read_head() {
  TestResponse response;
  const std::string status_line = read_line();
  if (!status_line.starts_with("HTTP/1.1 ")) return response;
  response.status = static_cast<unsigned>(std::atoi(status_line.c_str() + 9));
  for (std::string line = read_line(); !line.empty(); line = read_line()) {
    const size_t colon = line.find(": ");
    std::string name = line.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    response.headers[name] = line.substr(colon + 2);
  }
  return response;
}

std::optional<std::string> TestClient::read_chunk() {
  const std::string line = read_line();
  const size_t size = std::strtoull(line.c_str(), nullptr, 16);
  if (line.empty()) return std::nullopt;
  std::string chunk = take(size);
  read_line();
  if (size == 0) return std::nullopt;
  return chunk;
}

TestResponse TestClient::read_response(bool is_head) {
  TestResponse response = read_head();
  response.is_complete = true;
  if (response.status == 204 || response.status == 101) return response;  // which has no body
  if (response.headers.contains("transfer-encoding")) {
    while (auto chunk = read_chunk()) {
      response.body += *chunk;
      ++response.num_chunks;
    }
  } else if (!response.headers.contains("content-length")) {
    while (fill()) {
    }
    response.body = std::exchange(input_, {});
  } else if (!is_head) {
    const size_t size = std::strtoull(response.headers["content-length"].c_str(), nullptr, 10);
    response.body = take(size);
    response.is_complete = response.body.size() == size;
  }
  return response;
}

bool TestClient::read_eof() {
  while (fill()) {
  }
  return !has_timed_out_;
}

}  // namespace ultraspeed::net
