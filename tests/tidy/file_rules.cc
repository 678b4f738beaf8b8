// Files as such: names, whether anything uses them, sizes.
#include <fmt/format.h>

#include <algorithm>
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

// Whether CMake files name a source: as a path from their folder or from ${PROJECT_SOURCE_DIR}. Any
// other variable in a name (a foreach over fuzz targets) stands for some characters.
class CmakeReferences {
 public:
  explicit CmakeReferences(const SourceTree& tree) {
    for (const SourceFile& file : tree.files) {
      if (file.name() != "CMakeLists.txt" && file.extension() != ".cmake") continue;
      for (const std::string& line : file.lines) add_line(file.folder(), line);
    }
  }

  bool contains(const std::string& path) const {
    return paths_.contains(path) ||
           std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const std::regex& pattern) { return std::regex_match(path, pattern); });
  }

 private:
  void add_line(const std::string& folder, const std::string& line) {
    static const std::regex kWord("[A-Za-z0-9_./${}-]+\\.(cc|cu|h|cuh)\\b");
    static const std::string kRoot = "${PROJECT_SOURCE_DIR}/";
    for (std::sregex_iterator it(line.begin(), line.end(), kWord), end; it != end; ++it) {
      const std::string word = it->str();
      const std::filesystem::path path = word.starts_with(kRoot)
                                             ? std::filesystem::path(word.substr(kRoot.size()))
                                             : std::filesystem::path(folder) / word;
      add_path(path.lexically_normal().generic_string());
    }
  }

  void add_path(const std::string& path) {
    static const std::regex kDot("\\.");
    static const std::regex kVariable("\\$\\{\\w+\\}");
    if (path.find("${") == std::string::npos) {
      paths_.insert(path);
    } else {
      const std::string escaped = std::regex_replace(path, kDot, "\\.");
      patterns_.emplace_back(std::regex_replace(escaped, kVariable, "\\w+"));
    }
  }

  std::set<std::string> paths_;
  std::vector<std::regex> patterns_;
};

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
  const CmakeReferences listed(tree);
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
