// The page's files: where they are, what they may do in a browser, and who gets them.
#include "server/page_files.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

class PageFilesTest : public ServerTest {
 protected:
  net::TestResponse request(std::string_view method, std::string_view path,
                            std::string_view headers = {}) const {
    Client client(server->port());
    client.send(fmt::format("{} {} HTTP/1.1\r\n{}\r\n", method, path, headers));
    return client.read_response();
  }
};

std::string source(const std::string& name) {
  std::ifstream file(US_SOURCE_DIR "/src/page/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(PageFilesTest, AreThoseOfTheFolder) {
  start();
  EXPECT_GT(embedded_page_files().size(), 10U);
  for (const PageFile& file : embedded_page_files()) {
    EXPECT_EQ(file.text, source(std::string(file.name))) << file.name;
    if (file.name.ends_with(".html")) continue;
    const net::TestResponse response = get("/ui/" + std::string(file.name));
    EXPECT_EQ(response.status, 200U) << file.name;
    EXPECT_EQ(response.body, file.text) << file.name;
  }
  EXPECT_EQ(get("/").body, source("index.html"));
  EXPECT_EQ(get("/preview").body, source("preview.html"));
}

TEST_F(PageFilesTest, HaveTheirTypes) {
  start();
  const auto type = [this](const char* path) { return get(path).headers["content-type"]; };
  EXPECT_EQ(type("/"), "text/html; charset=utf-8");
  EXPECT_EQ(type("/ui/app.js"), "text/javascript; charset=utf-8");
  EXPECT_EQ(type("/ui/style.css"), "text/css; charset=utf-8");
  EXPECT_EQ(type("/ui/icon.svg"), "image/svg+xml");
  EXPECT_EQ(get("/ui/app.js").headers["x-content-type-options"], "nosniff");
}

TEST_F(PageFilesTest, MayLoadNothingFromElsewhere) {
  start();
  const std::string page = get("/").headers["content-security-policy"];
  for (const char* part : {"default-src 'none'", "script-src 'self'", "connect-src 'self'",
                           "frame-src 'self'", "form-action 'none'", "frame-ancestors 'none'",
                           "base-uri 'none'", "require-trusted-types-for 'script'"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(page.find("unsafe"), std::string::npos);
  const std::string preview = get("/preview").headers["content-security-policy"];
  EXPECT_TRUE(preview.starts_with("sandbox allow-scripts; default-src 'none'")) << preview;
  EXPECT_EQ(preview.find("allow-same-origin"), std::string::npos);
  EXPECT_EQ(preview.find("connect-src"), std::string::npos);
}

TEST_F(PageFilesTest, AreSentAgainOnlyWhenTheyHaveChanged) {
  start();
  const std::string etag = get("/ui/app.js").headers["etag"];
  ASSERT_GT(etag.size(), 10U);
  net::TestResponse same = request("GET", "/ui/app.js", "If-None-Match: " + etag + "\r\n");
  EXPECT_EQ(same.status, 304U);
  EXPECT_EQ(same.body, "");
  EXPECT_NE(same.headers["content-security-policy"], "");
  EXPECT_EQ(request("GET", "/ui/app.js", "If-None-Match: \"other\"\r\n").status, 200U);
  EXPECT_NE(get("/ui/style.css").headers["etag"], etag);
}

TEST_F(PageFilesTest, NeedNoKeyButAHost) {
  options.access.api_keys = {"secret"};
  start();
  EXPECT_EQ(get("/").status, 200U);
  EXPECT_EQ(get("/ui/app.js").status, 200U);
  EXPECT_EQ(get("/v1/models").status, 401U);
  server.reset();
  options.access.api_keys = {};
  start();
  expect_error(request("GET", "/", "Host: evil.example\r\n"), 403, "host_not_allowed", "");
}

TEST_F(PageFilesTest, NothingElseIsThere) {
  start();
  for (const char* path : {"/ui", "/ui/", "/ui/index.html", "/ui/preview.html", "/ui/other.js",
                           "/ui/../server/server.cc", "/ui/%2e%2e/server.cc", "/ui//app.js",
                           "/ui/app.js/", "/ui/app.js%00", "/UI/app.js", "/preview/"}) {
    EXPECT_EQ(get(path).status, 404U) << path;
  }
  EXPECT_EQ(get("/ui/app.js?version=2").status, 200U);
  EXPECT_EQ(request("POST", "/", "Content-Length: 0\r\n").status, 405U);
}

}  // namespace
}  // namespace ultraspeed::server
