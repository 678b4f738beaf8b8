#include "hub/reference.h"

#include <algorithm>

namespace ultraspeed::hub {
namespace {

constexpr size_t kMaxNameBytes = 96;   // the hub's
constexpr size_t kMaxPartBytes = 255;  // of file systems
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kCommitDigits = 40;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name(std::string_view text) {
  const auto is_allowed = [](char c) {
    return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
  };
  const auto is_end = [](char c) { return is_alphanumeric(c) || c == '_'; };
  return !text.empty() && text.size() <= kMaxNameBytes && is_end(text.front()) &&
         is_end(text.back()) && std::all_of(text.begin(), text.end(), is_allowed) &&
         text.find("--") == std::string_view::npos && text.find("..") == std::string_view::npos &&
         !text.ends_with(".git");
}

bool is_part(std::string_view part) {
  return !part.empty() && part.size() <= kMaxPartBytes && part != "." && part != "..";
}

}  // namespace

std::optional<ModelReference> parse_reference(std::string_view text) {
  const size_t at = text.find('@');
  const std::string_view id = text.substr(0, at);
  const size_t slash = id.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  if (!is_name(id.substr(0, slash)) || !is_name(id.substr(slash + 1))) return std::nullopt;
  ModelReference reference{.id = std::string(id)};
  if (at == std::string_view::npos) return reference;
  reference.revision = text.substr(at + 1);
  if (!is_inside_path(reference.revision)) return std::nullopt;
  return reference;
}

bool is_inside_path(std::string_view path) {
  const bool is_plain = std::all_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7F && c != '\\';
  });
  if (!is_plain || path.size() > kMaxPathBytes) return false;
  while (true) {
    const size_t slash = path.find('/');
    if (!is_part(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_commit(std::string_view text) {
  return text.size() == kCommitDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace ultraspeed::hub
