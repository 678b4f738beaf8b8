#include "hub/listing.h"

#include <fmt/format.h>
#include <fnmatch.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/printable.h"
#include "hub/reference.h"

namespace ultraspeed::hub {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxFiles = 100'000;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 50;  // sums of them stay below 2^64

template <class... Args>
tl::unexpected<Error> wrong(std::string_view where, fmt::format_string<Args...> format,
                            Args&&... args) {
  return make_error(ErrorCode::kInvalidData, "{}: {}", where,
                    fmt::format(format, std::forward<Args>(args)...));
}

Result<RepositoryFile> parse_file(std::string_view where, dom::element entry) {
  RepositoryFile file;
  std::string_view path;
  if (entry["rfilename"].get(path) != simdjson::SUCCESS) {
    return wrong(where, "a file has no name (rfilename)");
  }
  if (!is_inside_path(path)) {
    return wrong(where, "it lists a file '{}', which could lie outside its folder",
                 printable(path));
  }
  file.path = path;
  uint64_t size = 0;
  std::string_view name;
  const bool is_lfs = entry["lfs"]["sha256"].get(name) == simdjson::SUCCESS;
  const bool has_size = (is_lfs && entry["lfs"]["size"].get(size) == simdjson::SUCCESS) ||
                        entry["size"].get(size) == simdjson::SUCCESS;
  if (has_size && size <= kMaxFileBytes) file.size = size;
  if (is_lfs || entry["blobId"].get(name) == simdjson::SUCCESS) file.blob = parse_blob_name(name);
  return file;
}

bool matches(const std::string& path, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&path](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

}  // namespace

Result<Listing> parse_listing(std::string_view where, std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object()) {
    return wrong(where, "not a JSON object; expected what a Hugging Face hub says of a model");
  }
  Listing listing;
  std::string_view commit;
  if (root["sha"].get(commit) != simdjson::SUCCESS || !is_commit(commit)) {
    return wrong(where, "no commit (sha); expected 40 hexadecimal digits");
  }
  listing.commit = commit;
  dom::array files;
  if (root["siblings"].get(files) != simdjson::SUCCESS) {
    return wrong(where, "no list of files (siblings)");
  }
  std::set<std::string_view> paths;
  for (const dom::element entry : files) {
    if (listing.files.size() == kMaxFiles) return wrong(where, "more than {} files", kMaxFiles);
    US_ASSIGN(listing.files.emplace_back(), parse_file(where, entry));
  }
  for (const RepositoryFile& file : listing.files) {
    if (!paths.insert(file.path).second) return wrong(where, "'{}' is listed twice", file.path);
  }
  return listing;
}

bool is_needed(std::string_view path) {
  constexpr std::string_view kDrafter = "dflash/";
  if (path.starts_with(kDrafter)) path.remove_prefix(kDrafter.size());
  if (path.find('/') != std::string_view::npos || path.starts_with('.')) return false;
  if (path == "mask_embedding.pt") return true;
  if (path.starts_with("consolidated")) return false;  // the same weights under other names
  constexpr std::array<std::string_view, 4> kEndings = {".json", ".safetensors", ".jinja", ".txt"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [path](std::string_view ending) { return path.ends_with(ending); });
}

bool is_weights(std::string_view path) {
  return path.ends_with(".safetensors");
}

std::vector<RepositoryFile> choose_files(const Listing& listing, const FileChoice& choice) {
  std::vector<RepositoryFile> chosen;
  for (const RepositoryFile& file : listing.files) {
    const bool is_wanted =
        choice.include.empty() ? is_needed(file.path) : matches(file.path, choice.include);
    if (is_wanted && !matches(file.path, choice.exclude)) chosen.push_back(file);
  }
  std::sort(chosen.begin(), chosen.end(), [](const RepositoryFile& a, const RepositoryFile& b) {
    return std::pair(is_weights(a.path), std::string_view(a.path)) <
           std::pair(is_weights(b.path), std::string_view(b.path));
  });
  return chosen;
}

Status check_has_weights(const std::string& id, const Listing& listing,
                         const std::vector<RepositoryFile>& chosen) {
  const auto has = [](const std::vector<RepositoryFile>& files, std::string_view ending) {
    return std::any_of(files.begin(), files.end(), [ending](const RepositoryFile& file) {
      return file.path.ends_with(ending);
    });
  };
  const bool has_config = std::any_of(chosen.begin(), chosen.end(),
                                      [](const auto& file) { return file.path == "config.json"; });
  if (has_config && has(chosen, ".safetensors")) return {};
  std::string instead;
  for (const std::string_view ending : {".gguf", ".bin", ".pth", ".onnx"}) {
    if (!has(listing.files, ending)) continue;
    instead += fmt::format("{}*{}", instead.empty() ? ", but " : ", ", ending);
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: no {}{}; expected a repository with config.json and *.safetensors (the "
                    "model that this one was made from, perhaps), or --include to fetch other "
                    "files",
                    id, has_config ? "*.safetensors" : "config.json", instead);
}

}  // namespace ultraspeed::hub
