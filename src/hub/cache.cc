#include "hub/cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/output_folder.h"

namespace ultraspeed::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "models--";
constexpr std::string_view kSeparator = "--";

std::string folder_name(std::string_view id) {
  const size_t slash = id.find('/');
  return fmt::format("{}{}{}{}", kPrefix, id.substr(0, slash), kSeparator, id.substr(slash + 1));
}

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The commit in a file of refs/; "" where there is none.
std::string read_commit(const std::string& file) {
  std::array<char, 41> text = {};
  std::ifstream(file, std::ios::binary).read(text.data(), text.size() - 1);
  return is_commit(text.data()) ? text.data() : "";
}

// From snapshots/COMMIT/PATH to blobs/HASH.
std::string link_target(std::string_view path, const BlobName& blob) {
  std::string ups;
  for (auto i = std::count(path.begin(), path.end(), '/'); i > 0; --i) ups += "../";
  return fmt::format("{}../../blobs/{}", ups, blob.hex);
}

}  // namespace

ModelCache::ModelCache(std::string cache_folder, ModelReference reference)
    : cache_folder_(std::move(cache_folder)), reference_(std::move(reference)) {}

std::string ModelCache::folder() const {
  return fmt::format("{}/{}", cache_folder_, folder_name(reference_.id));
}

std::string ModelCache::snapshot(std::string_view commit) const {
  return fmt::format("{}/snapshots/{}", folder(), commit);
}

std::string ModelCache::lock_file(const BlobName& blob) const {
  return fmt::format("{}/.locks/{}/{}.lock", cache_folder_, folder_name(reference_.id), blob.hex);
}

Result<std::string> ModelCache::find() const {
  const std::string& revision = reference_.revision;
  const std::string commit = is_commit(revision) ? revision : read_commit(ref_file());
  if (!commit.empty() && is_folder(snapshot(commit))) return snapshot(commit);
  const std::string others = revisions();
  const std::string had =
      others.empty() ? "" : fmt::format(", which has of its revisions only {}", others);
  return make_error(ErrorCode::kNotFound,
                    "{}: no such folder, and not in the Hugging Face cache {}{}; 'ultraspeed pull "
                    "{}' downloads it",
                    reference_.text(), cache_folder_, had, reference_.text());
}

std::string ModelCache::revisions() const {
  constexpr size_t kMaxNamed = 5;
  std::vector<std::string> names;
  for (const char* kind : {"refs", "snapshots"}) {
    std::error_code error;
    for (fs::directory_iterator entry(folder() + "/" + kind, error), end; !error && entry != end;
         entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    if (!names.empty()) break;
  }
  std::sort(names.begin(), names.end());
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMaxNamed); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return text;
}

bool ModelCache::has_link(std::string_view commit, std::string_view path,
                          const BlobName& blob) const {
  std::error_code error;
  const std::string file = fmt::format("{}/{}", snapshot(commit), path);
  return fs::read_symlink(file, error) == link_target(path, blob) && fs::exists(file, error);
}

Status ModelCache::link(std::string_view commit, std::string_view path,
                        const BlobName& blob) const {
  US_CHECK(is_inside_path(path), "{}", path);
  const OutputFolder folder(snapshot(commit));
  US_TRY(folder.make_folder(fs::path(path).parent_path().string()));
  const std::string partial = fmt::format("{}.{}.partial", path, getpid());
  std::error_code error;
  fs::remove(folder.path_of(partial), error);
  fs::create_symlink(link_target(path, blob), folder.path_of(partial), error);
  if (error) {
    return make_error(ErrorCode::kIo, "{}: cannot make a link: {}", folder.path_of(path),
                      error.message());
  }
  return folder.rename(partial, path);
}

Status ModelCache::write_ref(std::string_view commit) const {
  if (is_commit(reference_.revision) || read_commit(ref_file()) == commit) return {};
  const OutputFolder refs(fs::path(ref_file()).parent_path().string());
  US_TRY(refs.make_folder(""));
  return refs.write_text(fs::path(ref_file()).filename().string(), commit);
}

std::string model_of_snapshot(std::string_view path) {
  const fs::path whole(path);
  for (fs::path part = whole; part.has_relative_path(); part = part.parent_path()) {
    const std::string owner = part.parent_path().filename().string();
    if (part.filename() != "snapshots" || !owner.starts_with(kPrefix)) continue;
    const std::string_view name = std::string_view(owner).substr(kPrefix.size());
    const size_t separator = name.find(kSeparator);
    if (separator == std::string::npos) return "";
    const std::string id =
        fmt::format("{}/{}", name.substr(0, separator), name.substr(separator + kSeparator.size()));
    return parse_reference(id) ? id : "";
  }
  return "";
}

}  // namespace ultraspeed::hub
