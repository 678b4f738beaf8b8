#include "net/http_location.h"

#include <gtest/gtest.h>

namespace ultraspeed::net {
namespace {

std::string followed(std::string_view location) {
  const HttpLocation from{{.host = "hub.org", .port = 443, .path = "", .has_tls = true},
                          "/a/resolve/main/b.json?x=1"};
  const auto to = follow(from, location);
  if (!to) return to.error().message;
  return fmt::format("{}{}:{} {}", to->server.has_tls ? "TLS " : "", to->server.host,
                     to->server.port, to->target);
}

TEST(HttpLocation, FollowsEveryFormOfAReference) {
  EXPECT_EQ(followed("https://cdn.org/x?Signature=a~b&Key=c@d/e#part"),
            "TLS cdn.org:443 /x?Signature=a~b&Key=c@d/e");
  EXPECT_EQ(followed("http://127.0.0.1:81"), "127.0.0.1:81 /");
  EXPECT_EQ(followed("https://cdn.org?q=1"), "TLS cdn.org:443 /?q=1");
  EXPECT_EQ(followed("//cdn.org:8443/y"), "TLS cdn.org:8443 /y");
  EXPECT_EQ(followed("/c/resolve/main/b.json"), "TLS hub.org:443 /c/resolve/main/b.json");
  EXPECT_EQ(followed("/c?to=https://other.org/"), "TLS hub.org:443 /c?to=https://other.org/");
  EXPECT_EQ(followed("c.json"), "TLS hub.org:443 /a/resolve/main/c.json");
  EXPECT_EQ(followed("?y=2"), "TLS hub.org:443 /a/resolve/main/b.json?y=2");
}

TEST(HttpLocation, RefusesWhatIsNoUrl) {
  for (const char* wrong : {"", "#x", "/a b", "/a\r\nHost: x", "/\xC3\xA4"}) {
    EXPECT_EQ(followed(wrong), "hub.org redirects to what is no URL; expected http or https");
  }
  for (const char* wrong : {"ftp://a/b", "file:///etc/passwd", "https://user@cdn.org/x"}) {
    EXPECT_TRUE(followed(wrong).starts_with("hub.org redirects elsewhere: '")) << followed(wrong);
  }
}

TEST(HttpLocation, AnOriginIsSchemeHostAndPort) {
  const HttpUrl url{.host = "Hub.org", .port = 443, .path = "/x", .has_tls = true};
  EXPECT_TRUE(is_same_origin(url, {.host = "hub.ORG", .port = 443, .path = "", .has_tls = true}));
  EXPECT_FALSE(is_same_origin(url, {.host = "hub.org", .port = 443, .path = "", .has_tls = false}));
  EXPECT_FALSE(is_same_origin(url, {.host = "hub.org", .port = 444, .path = "", .has_tls = true}));
  EXPECT_FALSE(
      is_same_origin(url, {.host = "a.hub.org", .port = 443, .path = "", .has_tls = true}));
}

TEST(HttpLocation, EncodesPaths) {
  EXPECT_EQ(percent_encoded("refs/pr/1", Slashes::kEncode), "refs%2Fpr%2F1");
  EXPECT_EQ(percent_encoded("a/b c?#%\xC3\xA4-._~", Slashes::kKeep), "a/b%20c%3F%23%25%C3%A4-._~");
}

}  // namespace
}  // namespace ultraspeed::net
