#include "server/page_files.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kPreview = "preview.html";

// Everything is this server's own; nothing becomes a script or a style that is no file of it, and
// no text becomes HTML.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

// What a model wrote runs here: in an origin of its own, with nothing to talk to.
constexpr const char* kPreviewPolicy =
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'";

std::string_view content_type(std::string_view name) {
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "text/html; charset=utf-8";
}

const PageFile* find_file(std::string_view path) {
  constexpr std::string_view kFolder = "/ui/";
  std::string_view name;
  if (path == "/") {
    name = "index.html";
  } else if (path == "/preview") {
    name = kPreview;
  } else if (path.starts_with(kFolder) && !path.ends_with(".html")) {
    name = path.substr(kFolder.size());
  }
  const std::vector<PageFile>& files = embedded_page_files();
  const auto file = std::ranges::find(files, name, &PageFile::name);
  return file == files.end() ? nullptr : &*file;
}

}  // namespace

bool is_page_path(std::string_view path) {
  return find_file(path) != nullptr;
}

net::HttpResponse page_file_response(const net::HttpRequest& request) {
  const PageFile* file = find_file(request.path());
  US_CHECK(file != nullptr, "no file of the page: {}", request.path());
  std::vector<net::Header> headers = {
      {"Content-Security-Policy", file->name == kPreview ? kPreviewPolicy : kPagePolicy},
      {"Cache-Control", "no-cache"},  // asks each time whether it is still the same
      {"ETag", std::string(file->etag)},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"X-DNS-Prefetch-Control", "off"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
  };
  if (request.header("If-None-Match").find(file->etag) != std::string_view::npos) {
    return {304, std::move(headers), {}};
  }
  headers.push_back({"Content-Type", std::string(content_type(file->name))});
  return {200, std::move(headers), std::string(file->text)};
}

}  // namespace ultraspeed::server
