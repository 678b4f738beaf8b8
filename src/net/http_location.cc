#include "net/http_location.h"

#include <algorithm>
#include <utility>

#include "net/http_message.h"

namespace ultraspeed::net {
namespace {

constexpr size_t kMaxLocationBytes = 16 << 10;

Result<HttpLocation> parse_absolute(std::string_view url) {
  const size_t authority = url.find("://") + 3;
  const size_t end = std::min(url.find_first_of("/?", authority), url.size());
  US_ASSIGN(HttpUrl server, parse_http_url(url.substr(0, end)));
  const std::string_view rest = url.substr(end);
  std::string target = fmt::format("{}{}", rest.starts_with('/') ? "" : "/", rest);
  return HttpLocation{std::move(server), std::move(target)};
}

}  // namespace

Result<HttpLocation> follow(const HttpLocation& from, std::string_view location) {
  const std::string_view url = location.substr(0, location.find('#'));
  const bool is_ascii =
      std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (url.empty() || !is_ascii || url.size() > kMaxLocationBytes) {
    return make_error(ErrorCode::kInvalidData,
                      "{} redirects to what is no URL; expected http or https", from.server.host);
  }
  const size_t scheme_end = url.find("://");
  const bool is_absolute =
      scheme_end != std::string_view::npos && scheme_end < url.find_first_of("/?");
  if (is_absolute || url.starts_with("//")) {
    const std::string scheme = from.server.has_tls ? "https:" : "http:";
    auto target = parse_absolute(is_absolute ? std::string(url) : scheme + std::string(url));
    if (target) return target;
    return make_error(ErrorCode::kInvalidData, "{} redirects elsewhere: {}", from.server.host,
                      target.error().message);
  }
  HttpLocation target = from;
  const std::string_view path = std::string_view(from.target).substr(0, from.target.find('?'));
  if (url.starts_with('/')) {
    target.target = url;
  } else if (url.starts_with('?')) {
    target.target = std::string(path) + std::string(url);
  } else {
    target.target = std::string(path.substr(0, path.rfind('/') + 1)) + std::string(url);
  }
  return target;
}

bool is_same_origin(const HttpUrl& a, const HttpUrl& b) {
  return a.has_tls == b.has_tls && a.port == b.port && equals_ignoring_case(a.host, b.host);
}

std::string percent_encoded(std::string_view text, Slashes slashes) {
  std::string out;
  for (const char c : text) {
    const bool is_alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    const bool is_kept = is_alphanumeric || std::string_view("-._~").find(c) != std::string::npos ||
                         (c == '/' && slashes == Slashes::kKeep);
    out += is_kept ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace ultraspeed::net
