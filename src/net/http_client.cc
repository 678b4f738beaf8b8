#include "net/http_client.h"

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <charconv>
#include <limits>

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

constexpr uint32_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kReadBytes = 64 << 10;
constexpr uint16_t kTlsPort = 443;

std::string host_and_port(const HttpUrl& url) {
  const bool is_ipv6 = url.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_ipv6 ? "[" : "", url.host, is_ipv6 ? "]" : "", url.port);
}

std::string request_bytes(const HttpRequest& request, const HttpUrl& url) {
  std::string bytes = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target,
                                  host_and_port(url));
  for (const Header& header : request.headers) {
    bytes += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  bytes += fmt::format("Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.size());
  return bytes + request.body;
}

std::string failed_handshake(error_code error) {
  std::string text = "TLS: " + error.message();
  if (text.find("certificate verify failed") == std::string::npos) return text;
  return text + " (nobody whom this system trusts vouches for it; SSL_CERT_FILE may name who does)";
}

// One request and its answer. Whatever is under way keeps it alive.
class ClientRequest : public std::enable_shared_from_this<ClientRequest> {
 public:
  ClientRequest(asio::io_context& io, ssl::context& tls, const HttpUrl& url,
                const HttpRequest& request, const ClientOptions& options,
                std::shared_ptr<ResponseListener> listener)
      : stream_(io, tls),
        host_(url.host),
        has_tls_(url.has_tls),
        bytes_(request_bytes(request, url)),
        options_(options),
        listener_(std::move(listener)) {
    parser_.eager(true);
    parser_.header_limit(kMaxHeaderBytes);
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
    parser_.skip(request.method == "HEAD");  // its Content-Length is that of another answer
  }

  void start(const std::vector<tcp::endpoint>& endpoints) {
    socket().expires_after(options_.timeout);
    socket().async_connect(endpoints,
                           [self = shared_from_this()](error_code error, const tcp::endpoint&) {
                             self->on_connected(error);
                           });
  }

 private:
  beast::tcp_stream& socket() { return stream_.next_layer(); }

  void on_connected(error_code error) {
    if (error == beast::error::timeout) return fail(error);
    if (error) return listener_->on_failed(RequestFailure::kConnect, error.message());
    error_code ignored;
    socket().socket().set_option(tcp::no_delay(true), ignored);
    if (!has_tls_) return write(socket());
    error_code not_an_address;
    asio::ip::make_address(host_, not_an_address);
    if (not_an_address) SSL_set_tlsext_host_name(stream_.native_handle(), host_.c_str());
    stream_.set_verify_callback(ssl::host_name_verification(host_));
    stream_.async_handshake(
        ssl::stream_base::client, [self = shared_from_this()](error_code failed) {
          if (!failed) return self->write(self->stream_);
          self->listener_->on_failed(RequestFailure::kConnect, failed_handshake(failed));
        });
  }

  // Reading meets the same end, behind what the server has said before.
  template <class Stream>
  void write(Stream& stream) {
    asio::async_write(stream, asio::buffer(bytes_),
                      [self = shared_from_this()](error_code, size_t) {});
    read();
  }

  void read() {
    socket().expires_after(options_.timeout);
    auto take = [self = shared_from_this()](error_code error, size_t size) {
      self->on_read(error, size);
    };
    const auto room = buffer_.prepare(kReadBytes);
    if (has_tls_) return stream_.async_read_some(room, std::move(take));
    socket().async_read_some(room, std::move(take));
  }

  void on_read(error_code error, size_t size) {
    buffer_.commit(size);
    error_code parse_error = parse();
    if (error == asio::error::eof && !parse_error && parser_.got_some()) {
      parser_.put_eof(parse_error);
      error = parse_error;
    }
    if (parser_.is_header_done() && !has_head_) give_head();
    std::string& body = parser_.get().body();
    if (!body.empty() && !listener_->on_body(body)) return socket().close();
    body.clear();
    if (parse_error || error) return fail(parse_error ? parse_error : error);
    if (!parser_.is_done()) return read();
    socket().close();
    listener_->on_end();
  }

  // All that has come. Beast's own reading would wait for the line end behind a chunk.
  error_code parse() {
    error_code error;
    while (buffer_.size() > 0 && !parser_.is_done() && !error) {
      buffer_.consume(parser_.put(buffer_.data(), error));
    }
    const bool is_too_long = buffer_.size() > kMaxHeaderBytes;  // a chunk's header
    return error == http::error::need_more && !is_too_long ? error_code() : error;
  }

  void give_head() {
    has_head_ = true;
    std::vector<Header> headers;
    for (const auto& field : parser_.get()) {
      const auto name = field.name_string();
      const auto value = field.value();
      headers.push_back({{name.data(), name.size()}, {value.data(), value.size()}});
    }
    listener_->on_head(parser_.get().result_int(), headers);
  }

  void fail(error_code error) {
    socket().close();
    const bool is_http = error.category() == http::make_error_code(http::error()).category();
    RequestFailure failure = is_http ? RequestFailure::kMalformed : RequestFailure::kLost;
    if (error == http::error::partial_message) failure = RequestFailure::kLost;
    if (error == beast::error::timeout) failure = RequestFailure::kTimeout;
    listener_->on_failed(failure, error.message());
  }

  beast::ssl_stream<beast::tcp_stream> stream_;  // the socket alone, without TLS
  const std::string host_;
  const bool has_tls_;
  const std::string bytes_;
  const ClientOptions options_;
  const std::shared_ptr<ResponseListener> listener_;
  beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
  bool has_head_ = false;
};

class AsioHttpClient final : public HttpClient {
 public:
  AsioHttpClient(HttpUrl url, const ClientOptions& options)
      : url_(std::move(url)), options_(options) {
    if (!url_.has_tls) return;  // reading the authorities takes 20 ms
    error_code ignored;         // no authorities: then no certificate is trusted
    tls_.set_default_verify_paths(ignored);
    tls_.set_verify_mode(ssl::verify_peer);
  }

  Status resolve() {
    tcp::resolver resolver(io_);
    error_code error;
    const auto results = resolver.resolve(url_.host, fmt::to_string(url_.port), error);
    if (error) {
      return make_error(ErrorCode::kNotFound, "host '{}' is not an address or known name: {}",
                        url_.host, error.message());
    }
    for (const auto& result : results) endpoints_.push_back(result.endpoint());
    return {};
  }

  void send(const HttpRequest& request, std::shared_ptr<ResponseListener> listener) override {
    std::make_shared<ClientRequest>(io_, tls_, url_, request, options_, std::move(listener))
        ->start(endpoints_);
  }

  void call_at(Clock::time_point when, std::function<void()> function) override {
    auto timer = std::make_shared<asio::steady_timer>(io_, when);
    timer->async_wait([timer, function = std::move(function)](error_code) { function(); });
  }

  void run() override {
    io_.restart();
    io_.run();
  }

 private:
  const HttpUrl url_;
  const ClientOptions options_;
  asio::io_context io_{1};
  ssl::context tls_{ssl::context::tls_client};
  std::vector<tcp::endpoint> endpoints_;
};

tl::unexpected<Error> not_a_url(std::string_view text) {
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is not the URL of a server; expected http://HOST[:PORT][/PATH] or https",
                    text);
}

}  // namespace

Result<HttpUrl> parse_http_url(std::string_view text) {
  constexpr std::string_view kPlain = "http://", kTls = "https://";
  // User names, queries and what needs quoting have no place in it.
  const bool has_other = text.find_first_of("@?#\\ ") != std::string_view::npos;
  const bool is_ascii =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
  HttpUrl url;
  url.has_tls = text.starts_with(kTls);
  if (url.has_tls) url.port = kTlsPort;
  const bool has_scheme = url.has_tls || text.starts_with(kPlain);
  if (!has_scheme || has_other || !is_ascii) return not_a_url(text);
  const std::string_view rest = text.substr(url.has_tls ? kTls.size() : kPlain.size());
  std::string_view authority = rest.substr(0, rest.find('/'));
  url.path = rest.substr(authority.size());
  while (url.path.ends_with('/')) url.path.pop_back();
  const bool is_bracketed = authority.starts_with('[');
  const size_t host_end = is_bracketed ? authority.find(']') : authority.find(':');
  if (is_bracketed && host_end == std::string_view::npos) return not_a_url(text);
  url.host = authority.substr(is_bracketed ? 1 : 0, host_end - (is_bracketed ? 1 : 0));
  authority.remove_prefix(std::min(authority.size(), host_end + (is_bracketed ? 1 : 0)));
  if (url.host.empty()) return not_a_url(text);
  if (authority.empty()) return url;
  const char* end = authority.data() + authority.size();
  const auto [read_end, error] = std::from_chars(authority.data() + 1, end, url.port);
  const bool is_port = authority.front() == ':' && error == std::errc() && read_end == end;
  if (!is_port || url.port == 0) return not_a_url(text);
  return url;
}

Result<std::unique_ptr<HttpClient>> HttpClient::create(const HttpUrl& url,
                                                       const ClientOptions& options) {
  auto client = std::make_unique<AsioHttpClient>(url, options);
  US_TRY(client->resolve());
  return std::unique_ptr<HttpClient>(std::move(client));
}

}  // namespace ultraspeed::net
