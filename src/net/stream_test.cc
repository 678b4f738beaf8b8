// Socket files and TLS: who may connect, what is refused, and that requests, streams and hang-ups
// work as over plain TCP.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "net/http_client.h"
#include "net/recording_response.h"
#include "net/test_client.h"
#include "net/test_server.h"
#include "support/temporary_directory.h"

namespace ultraspeed::net {
namespace {

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

// Writes a key, and a certificate of it for "localhost" that signs itself.
void write_certificate(const std::string& certificate_file, const std::string& key_file) {
  const Key key(EVP_EC_gen("P-256"));
  const std::unique_ptr<X509, Free<X509_free>> certificate(X509_new());
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* const name = X509_get_subject_name(certificate.get());
  const auto* host = reinterpret_cast<const unsigned char*>("localhost");
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, host, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  const std::unique_ptr<FILE, Free<fclose>> out(fopen(certificate_file.c_str(), "w"));
  PEM_write_X509(out.get(), certificate.get());
  const std::unique_ptr<FILE, Free<fclose>> key_out(fopen(key_file.c_str(), "w"));
  PEM_write_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
}

int connect_to(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

class TlsClient {
 public:
  explicit TlsClient(uint16_t port, int newest = TLS1_3_VERSION) : fd_(connect_to(port)) {
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context_.get(), newest);
    SSL_CTX_set_security_level(context_.get(), 0);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd_);
    is_connected_ = SSL_connect(ssl_.get()) == 1;
  }
  ~TlsClient() { close(); }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  bool is_connected() const { return is_connected_; }
  // The server's public key, as bytes.
  std::string certificate() const {
    const std::unique_ptr<X509, Free<X509_free>> shown(SSL_get1_peer_certificate(ssl_.get()));
    unsigned char* bytes = nullptr;
    const int size =
        shown == nullptr ? 0 : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(shown.get()), &bytes);
    std::string key(reinterpret_cast<const char*>(bytes), static_cast<size_t>(std::max(size, 0)));
    OPENSSL_free(bytes);
    return key;
  }
  void send(const std::string& bytes) {
    EXPECT_EQ(SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
  }
  // Until `text` has come, or the end.
  std::string read_until(std::string_view text) {
    std::string all;
    char buffer[16384];
    while (all.find(text) == std::string::npos) {
      const int size = SSL_read(ssl_.get(), buffer, sizeof buffer);
      if (size <= 0) break;
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }
  // Whether the server ends the connection, and says so.
  bool read_end() {
    char byte;
    return SSL_read(ssl_.get(), &byte, 1) == 0 &&
           SSL_get_shutdown(ssl_.get()) == SSL_RECEIVED_SHUTDOWN;
  }
  void say_goodbye() { SSL_shutdown(ssl_.get()); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
  std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>> context_{SSL_CTX_new(TLS_client_method())};
  std::unique_ptr<SSL, Free<SSL_free>> ssl_;
  bool is_connected_ = false;
};

class TlsTest : public HttpServerTest {
 protected:
  TlsTest() {
    options.certificate_file = directory.path() + "/certificate.pem";
    options.key_file = directory.path() + "/key.pem";
    write_certificate(options.certificate_file, options.key_file);
  }
  void expect_refused(std::string_view message_part) const {
    const auto checked = HttpServer::check_address(options);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(checked.error().message.find(message_part), std::string::npos)
        << checked.error().message;
  }

  test::TemporaryDirectory directory;
};

TEST_F(TlsTest, AnswersOnOneConnection) {
  start_server();
  TlsClient client(server->port());
  ASSERT_TRUE(client.is_connected());
  for (const size_t size : {size_t{3}, size_t{200'000}}) {
    const std::string body(size, 'x');
    client.send(fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", size, body));
    EXPECT_NE(client.read_until("POST /echo " + body).find("HTTP/1.1 200"), std::string::npos);
  }
  client.send("GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n");
  client.read_until("GET /echo ");
  EXPECT_TRUE(client.read_end());
}

TEST_F(TlsTest, OurClientTrustsTheHostsOwnCertificateAlone) {
  start_server();
  const auto ask = [&](const char* host, const std::string& trusted) {
    setenv("SSL_CERT_FILE", trusted.c_str(), 1);
    auto client = HttpClient::create({host, server->port(), "", true}, {});
    unsetenv("SSL_CERT_FILE");
    const auto answer = std::make_shared<RecordingResponse>();
    HttpRequest request;
    request.method = "POST";
    request.target = "/echo";
    request.body = std::string(200'000, 'x');
    (*client)->send(request, answer);
    (*client)->run();
    return answer;
  };
  const auto good = ask("localhost", options.certificate_file);
  EXPECT_EQ(good->status, 200u) << good->message;
  EXPECT_EQ(good->num_ends, 1);
  EXPECT_EQ(good->body, "POST /echo " + std::string(200'000, 'x'));
  for (const auto& wrong :
       {ask("127.0.0.1", options.certificate_file), ask("localhost", "/none")}) {
    EXPECT_EQ(wrong->failure, RequestFailure::kConnect);
    EXPECT_NE(wrong->message.find("certificate verify failed"), std::string::npos)
        << wrong->message;
  }
}

TEST_F(TlsTest, StreamsAndSeesClientsLeave) {
  start_server();
  for (const bool says_goodbye : {true, false}) {
    TlsClient client(server->port());
    client.send("GET /held HTTP/1.1\r\n\r\n");
    const auto held = hold();
    EXPECT_EQ(held.request.peer, "127.0.0.1");
    Awaited<CloseReason> lost;
    held.writer->on_close([&](CloseReason reason) { lost.set(reason); });
    held.writer->start_stream({});
    held.writer->write("one event");
    client.read_until("one event");
    if (says_goodbye) {
      client.say_goodbye();
    } else {
      client.close();
    }
    CloseReason reason{};
    ASSERT_TRUE(lost.wait(&reason));
    EXPECT_EQ(reason, CloseReason::kClientClosed);
  }
}

class ShoutingSocket final : public WebSocketHandler {
 public:
  void on_open(std::weak_ptr<WebSocket> opened) override { socket_ = std::move(opened); }
  void on_message(std::string text) override {
    if (const auto socket = socket_.lock()) socket->send(text + "!");
  }
  void on_close(CloseReason) override {}

 private:
  std::weak_ptr<WebSocket> socket_;
};

TEST_F(TlsTest, CarriesWebSockets) {
  start_server();
  TlsClient client(server->port());
  client.send(
      "GET /held HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Host: localhost\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  const auto held = hold();
  ASSERT_TRUE(held.request.wants_web_socket);
  held.writer->upgrade(std::make_shared<ShoutingSocket>(), {});
  EXPECT_NE(client.read_until("\r\n\r\n").find("HTTP/1.1 101"), std::string::npos);
  client.send(std::string("\x81\x82\0\0\0\0hi", 8));
  EXPECT_EQ(client.read_until("hi!"), "\x81\x03hi!");
  client.send(std::string("\x88\x80\0\0\0\0", 6));
  client.read_until("\x88");
  EXPECT_TRUE(client.read_end());
}

TEST_F(TlsTest, SilentAndPlainClientsAreDropped) {
  options.header_timeout_ms = 200;
  start_server();
  TestClient silent(server->port());
  EXPECT_TRUE(silent.read_eof());
  TestClient plain(server->port());
  plain.get("/echo");
  EXPECT_TRUE(plain.read_eof());
  EXPECT_TRUE(TlsClient(server->port()).is_connected());
}

TEST_F(TlsTest, OldVersionsAreRefused) {
  start_server();
  EXPECT_TRUE(TlsClient(server->port(), TLS1_2_VERSION).is_connected());
  EXPECT_FALSE(TlsClient(server->port(), TLS1_1_VERSION).is_connected());
}

TEST_F(TlsTest, StopsInTheMiddleOfAHandshake) {
  start_server();
  TestClient silent(server->port());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  server->stop(0);
  EXPECT_TRUE(silent.read_eof());
}

// Connections that are open keep theirs; a broken file changes nothing.
TEST_F(TlsTest, ReadsTheCertificateAgain) {
  start_server();
  TlsClient before(server->port());
  const std::string first = before.certificate();
  write_certificate(options.certificate_file, options.key_file);
  EXPECT_TRUE(server->reload_certificate());
  const std::string second = TlsClient(server->port()).certificate();
  EXPECT_NE(second, first);
  before.send("GET /echo HTTP/1.1\r\n\r\n");
  EXPECT_NE(before.read_until("GET /echo ").find("200"), std::string::npos);
  std::ofstream(options.key_file) << "nonsense";
  const Status broken = server->reload_certificate();
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message.find(options.key_file), std::string::npos);
  EXPECT_EQ(TlsClient(server->port()).certificate(), second);
}

TEST_F(TlsTest, UnusableFilesAreErrors) {
  const std::string key_file = options.key_file;
  const std::string other = directory.path() + "/other";
  write_certificate(other + ".pem", other + ".key");
  options.key_file = other + ".key";
  expect_refused("other.key: not the key of the certificate in");
  options.key_file = directory.path() + "/none";
  expect_refused("none: cannot read the private key: No such file");
  options.key_file = options.certificate_file;
  expect_refused("certificate.pem: not a private key in PEM");
  options.key_file.clear();
  expect_refused("no private key given");
  options.key_file = key_file;
  options.certificate_file.clear();
  expect_refused("no certificate given");
  options.certificate_file = key_file;
  expect_refused("key.pem: not a certificate in PEM");
}

class SocketFileTest : public HttpServerTest {
 protected:
  SocketFileTest() { options.unix_socket = directory.path() + "/server.sock"; }
  bool is_there() const { return std::filesystem::exists(options.unix_socket); }

  test::TemporaryDirectory directory;
};

TEST_F(SocketFileTest, AnswersItsOwnerAndGoesWithTheServer) {
  EXPECT_EQ(HttpServer::check_address(options).value(), "");
  EXPECT_FALSE(is_there());
  start_server();
  EXPECT_EQ(server->address(), "");
  struct stat status = {};
  ASSERT_EQ(stat(options.unix_socket.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  TestClient client(options.unix_socket);
  client.post("/echo", "body");
  EXPECT_EQ(client.read_response().body, "POST /echo body");
  client.get("/held");
  const auto held = hold();
  EXPECT_EQ(held.request.peer, "");
  Awaited<CloseReason> lost;
  held.writer->on_close([&](CloseReason reason) { lost.set(reason); });
  client.close();
  CloseReason reason{};
  EXPECT_TRUE(lost.wait(&reason));
  server->stop(0);
  EXPECT_FALSE(is_there());
}

TEST_F(SocketFileTest, ReplacesAFileOnWhichNobodyListens) {
  const int left = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  options.unix_socket.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(left);
  ASSERT_TRUE(is_there());
  start_server();
  const auto second = HttpServer::listen(options, handler);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another server listens there"), std::string::npos);
  TestClient client(options.unix_socket);
  client.get("/echo");
  EXPECT_EQ(client.read_response().status, 200U);
}

TEST_F(SocketFileTest, LeavesOtherFilesAlone) {
  std::ofstream(options.unix_socket) << "text";
  auto checked = HttpServer::check_address(options);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message.find("no socket"), std::string::npos);
  EXPECT_TRUE(is_there());
  options.unix_socket = directory.path() + "/none/server.sock";
  EXPECT_FALSE(HttpServer::check_address(options));
  options.unix_socket = directory.path() + "/" + std::string(200, 'x');
  checked = HttpServer::check_address(options);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message.find("107 bytes at most"), std::string::npos);
}

TEST_F(SocketFileTest, LeavesTheFileOfItsSuccessor) {
  start_server();
  std::filesystem::remove(options.unix_socket);
  auto successor = HttpServer::listen(options, handler);
  ASSERT_TRUE(successor);
  server->stop(0);
  EXPECT_TRUE(is_there());
}

}  // namespace
}  // namespace ultraspeed::net
