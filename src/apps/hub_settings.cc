#include "apps/hub_settings.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include "apps/provenance.h"

namespace ultraspeed::apps {
namespace {

constexpr const char* kEndpoint = "https://huggingface.co";
constexpr std::string_view kSpace = " \t\r\n";

// "" for a variable that is not set.
std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string home() {
  std::string folder = variable("HOME");
  if (!folder.empty()) return folder;
  const passwd* const user = getpwuid(getuid());
  return user == nullptr ? "." : user->pw_dir;
}

// A path in a variable that no shell has seen, such as one of a service's file.
std::string expanded(const std::string& path) {
  return path == "~" || path.starts_with("~/") ? home() + path.substr(1) : path;
}

std::string hugging_face_home() {
  if (const std::string folder = variable("HF_HOME"); !folder.empty()) return expanded(folder);
  const std::string cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? home() + "/.cache" : expanded(cache)) + "/huggingface";
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

std::string token_of_file() {
  constexpr size_t kMaxBytes = 4096;
  std::string path = variable("HF_TOKEN_PATH");
  path = path.empty() ? hugging_face_home() + "/token" : expanded(path);
  std::string text(kMaxBytes, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return text;
}

Result<std::string> read_token() {
  std::string token = trimmed(variable("HF_TOKEN"));
  if (token.empty()) token = trimmed(variable("HUGGING_FACE_HUB_TOKEN"));
  if (token.empty()) token = trimmed(token_of_file());
  const bool is_plain =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (is_plain) return token;
  return make_error(ErrorCode::kInvalidArgument,
                    "HF_TOKEN, or the file of 'hf auth login', has characters that no token has");
}

bool is_true(std::string value) {
  std::transform(value.begin(), value.end(), value.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

}  // namespace

std::string hub_cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string folder = variable(name); !folder.empty()) return expanded(folder);
  }
  return hugging_face_home() + "/hub";
}

Result<hub::ClientOptions> hub_client_options() {
  for (const char* name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    if (!is_true(variable(name))) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{} is set, so that nothing is downloaded; "
                      "unset it to download",
                      name);
  }
  const std::string set = variable("HF_ENDPOINT");
  const auto url = net::parse_http_url(set.empty() ? kEndpoint : set);
  if (!url) {
    return make_error(ErrorCode::kInvalidArgument, "HF_ENDPOINT: {}", url.error().message);
  }
  hub::ClientOptions options;
  options.endpoint = *url;
  US_ASSIGN(options.token, read_token());
  options.user_agent = fmt::format("ultraspeed/{}", version());
  return options;
}

}  // namespace ultraspeed::apps
