// The page: files of src/page, which are part of the program. They need no key: what they ask the
// server for does. docs/page.md has the security model.
#pragma once

#include <string_view>
#include <vector>

#include "net/http_server.h"

namespace ultraspeed::server {

struct PageFile {
  std::string_view name;  // in src/page
  std::string_view etag;  // quoted
  std::string_view text;
};

// Written when the program is built.
const std::vector<PageFile>& embedded_page_files();

// "/", "/preview" and "/ui/NAME" of a file that there is.
bool is_page_path(std::string_view path);

// REQUIRES: is_page_path() of its path.
net::HttpResponse page_file_response(const net::HttpRequest& request);

}  // namespace ultraspeed::server
