// Files as such: names, whether anything uses them, sizes.
#include <fmt/format.h>

#include <numeric>
#include <regex>
#include <set>

#include "tidy/rules.h"

namespace ultraspeed::tidy {
namespace {

constexpr uint64_t kMaxBinaryBytes = 100'000;
constexpr uint64_t kMaxTreeBytes = 60'000'000;

bool may_hold_binaries(const SourceFile& file) {
  return file.path.starts_with("models/") || file.path.starts_with("tests/data/");
}

// Every word of every CMakeLists.txt, prefixed with the folder it is relative to.
std::set<std::string> cmake_references(const SourceTree& tree) {
  static const std::regex kWord("[A-Za-z0-9_./${}-]+\\.(cc|cu|h|cuh)\\b");
  std::set<std::string> references;
  for (const SourceFile& file : tree.files) {
    if (file.name() != "CMakeLists.txt" && file.extension() != ".cmake") continue;
    for (const std::string& line : file.lines) {
      for (std::sregex_iterator it(line.begin(), line.end(), kWord), end; it != end; ++it) {
        std::string word = it->str();
        const std::string root = "${PROJECT_SOURCE_DIR}/";
        const bool is_absolute = word.starts_with(root);
        const std::filesystem::path path = is_absolute
                                               ? std::filesystem::path(word.substr(root.size()))
                                               : std::filesystem::path(file.folder()) / word;
        references.insert(path.lexically_normal().generic_string());
      }
    }
  }
  return references;
}

// Quoted includes of all files, as paths from the root: includes start at src/, tests/ or the
// folder.
std::set<std::string> included_paths(const SourceTree& tree) {
  std::set<std::string> paths;
  for (const SourceFile& file : tree.files) {
    if (!file.is_cpp()) continue;
    for (const Include& include : quoted_includes(file)) {
      for (const std::string& root :
           {std::string("src/"), std::string("tests/"), file.folder() + "/"}) {
        const std::string path = root + include.target;
        if (path != file.path) paths.insert(path);
      }
    }
  }
  return paths;
}

}  // namespace

void check_file_names(const SourceTree& tree, Violations* out) {
  static const std::regex kVariant("(_new|_old|_orig|_copy|_legacy|_deprecated|_v[0-9]+)$");
  static const std::regex kModelName("mimo_v[0-9]+$");
  for (const SourceFile& file : tree.files) {
    if (may_hold_binaries(file)) continue;
    const std::string stem = file.stem();
    if (std::regex_search(stem, kVariant) && !std::regex_search(stem, kModelName)) {
      out->push_back({file.path, 0, "a variant by file name; replace the file, git remembers"});
    }
  }
}

void check_references(const SourceTree& tree, Violations* out) {
  const std::set<std::string> listed = cmake_references(tree);
  const std::set<std::string> included = included_paths(tree);
  for (const SourceFile& file : tree.files) {
    if (!file.is_cpp() || listed.contains(file.path)) continue;
    if (!file.is_header()) {
      out->push_back({file.path, 0, "no CMakeLists.txt lists it; list it or remove it"});
    } else if (!included.contains(file.path)) {
      out->push_back({file.path, 0, "nothing includes it; use it or remove it"});
    }
  }
}

void check_file_sizes(const SourceTree& tree, Violations* out) {
  uint64_t total_bytes = 0;
  for (const SourceFile& file : tree.files) {
    total_bytes += file.size_bytes;
    if (file.is_binary && file.size_bytes > kMaxBinaryBytes && !may_hold_binaries(file)) {
      out->push_back(
          {file.path, 0,
           fmt::format("a binary of {} bytes; at most {} outside models/ and tests/data/",
                       file.size_bytes, kMaxBinaryBytes)});
    }
  }
  if (total_bytes > kMaxTreeBytes) {
    out->push_back(
        {".", 0, fmt::format("the tree holds {} bytes; at most {}", total_bytes, kMaxTreeBytes)});
  }
}

}  // namespace ultraspeed::tidy
