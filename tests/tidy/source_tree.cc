// Reading the tree and blanking comments and literals.
#include "tidy/source_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace ultraspeed::tidy {
namespace {

constexpr size_t kBinaryProbeBytes = 8192;
constexpr uint64_t kMaxTextBytes = 1 << 20;  // larger text is data; no rule reads its lines

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes = kMaxTextBytes) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(max_bytes, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(max_bytes));
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The folders and files that .gitignore names from the root, "/folder/" or "/folder/file", and .git
// itself.
std::set<std::string> ignored_paths(const std::filesystem::path& root) {
  std::set<std::string> paths = {".git"};
  for (const std::string& line : split_lines(read_file(root / ".gitignore"))) {
    if (line.size() > 2 && line.front() == '/') {
      paths.insert(line.substr(1, line.size() - (line.back() == '/' ? 2 : 1)));
    }
  }
  return paths;
}

SourceFile load_file(const std::filesystem::path& root, const std::string& path) {
  SourceFile file;
  file.path = path;
  file.size_bytes = std::filesystem::file_size(root / path);
  const std::string probe = read_file(root / path, kBinaryProbeBytes);
  file.is_binary = probe.find('\0') != std::string::npos;
  if (file.is_binary || file.size_bytes > kMaxTextBytes) return file;
  file.lines = split_lines(read_file(root / path));
  if (file.is_cpp()) file.code = blank_comments_and_literals(file.lines);
  return file;
}

// A scanner over the characters of a file that keeps the line structure and blanks what is not
// code.
class Blanker {
 public:
  void add_line(const std::string& line) {
    std::string out = line;
    for (size_t i = 0; i < line.size();) i = step(line, i, &out);
    // An unterminated plain literal ends with its line (a preprocessor message, an apostrophe).
    if (state_ == State::kString || state_ == State::kCharacter) state_ = State::kCode;
    if (state_ == State::kLineComment && !line.ends_with('\\')) state_ = State::kCode;
    lines_.push_back(std::move(out));
  }

  std::vector<std::string> take() { return std::move(lines_); }

 private:
  enum class State { kCode, kLineComment, kBlockComment, kString, kCharacter, kRawString };

  // Handles the characters at i and returns the next index.
  size_t step(const std::string& line, size_t i, std::string* out) {
    if (state_ == State::kCode) return step_code(line, i, out);
    const std::string_view rest = std::string_view(line).substr(i);
    if (state_ == State::kBlockComment && rest.starts_with("*/")) return leave(i, 2, out);
    if (state_ == State::kRawString && rest.starts_with(raw_end_)) {
      return leave(i, raw_end_.size(), out);
    }
    if (state_ == State::kString && line[i] == '"') return leave(i, 1, out);
    if (state_ == State::kCharacter && line[i] == '\'') return leave(i, 1, out);
    const bool is_escape =
        (state_ == State::kString || state_ == State::kCharacter) && line[i] == '\\';
    const size_t count = is_escape && i + 1 < line.size() ? 2 : 1;
    out->replace(i, count, count, ' ');
    return i + count;
  }

  size_t step_code(const std::string& line, size_t i, std::string* out) {
    const std::string_view rest = std::string_view(line).substr(i);
    if (rest.starts_with("//")) return enter(State::kLineComment, i, 2, out);
    if (rest.starts_with("/*")) return enter(State::kBlockComment, i, 2, out);
    if (rest.starts_with("R\"") && (i == 0 || !is_identifier(line[i - 1]))) {
      const size_t open = rest.find('(');
      if (open != std::string_view::npos) {
        raw_end_ = fmt::format("){}\"", rest.substr(2, open - 2));
        return enter(State::kRawString, i, open + 1, out);
      }
    }
    if (line[i] == '"') return enter(State::kString, i, 1, out);
    // A digit separator (1'000) is not a literal.
    if (line[i] == '\'' && (i == 0 || !is_identifier(line[i - 1]))) {
      return enter(State::kCharacter, i, 1, out);
    }
    return i + 1;
  }

  size_t enter(State state, size_t i, size_t count, std::string* out) {
    state_ = state;
    out->replace(i, count, count, ' ');
    return i + count;
  }

  size_t leave(size_t i, size_t count, std::string* out) {
    return enter(State::kCode, i, count, out);
  }

  static bool is_identifier(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  }

  State state_ = State::kCode;
  std::string raw_end_;
  std::vector<std::string> lines_;
};

}  // namespace

std::string SourceFile::name() const {
  return std::filesystem::path(path).filename().string();
}
std::string SourceFile::stem() const {
  return std::filesystem::path(path).stem().string();
}
std::string SourceFile::extension() const {
  return std::filesystem::path(path).extension().string();
}
std::string SourceFile::folder() const {
  return std::filesystem::path(path).parent_path().string();
}

bool SourceFile::is_cpp() const {
  const std::string ext = extension();
  return ext == ".h" || ext == ".cc" || ext == ".cuh" || ext == ".cu";
}

bool SourceFile::is_header() const {
  return extension() == ".h" || extension() == ".cuh";
}

bool SourceFile::is_test() const {
  return path.starts_with("tests/") || stem().ends_with("_test") || stem().ends_with("_fuzz");
}

const SourceFile* SourceTree::find(std::string_view path) const {
  const auto it = std::lower_bound(
      files.begin(), files.end(), path,
      [](const SourceFile& file, std::string_view value) { return file.path < value; });
  return it != files.end() && it->path == path ? &*it : nullptr;
}

SourceTree load_tree(const std::filesystem::path& root) {
  const std::set<std::string> ignored = ignored_paths(root);
  SourceTree tree;
  std::filesystem::recursive_directory_iterator it(root);
  for (const auto& entry : it) {
    const std::string path = entry.path().lexically_relative(root).generic_string();
    if (entry.is_directory() && ignored.contains(path)) it.disable_recursion_pending();
    if (entry.is_regular_file() && !ignored.contains(path)) {
      tree.files.push_back(load_file(root, path));
    }
  }
  std::sort(tree.files.begin(), tree.files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return tree;
}

std::vector<std::string> blank_comments_and_literals(const std::vector<std::string>& lines) {
  Blanker blanker;
  for (const std::string& line : lines) blanker.add_line(line);
  return blanker.take();
}

std::vector<Include> quoted_includes(const SourceFile& file) {
  static const std::regex kPattern(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<Include> includes;
  for (size_t i = 0; i < file.lines.size(); ++i) {
    std::smatch match;
    if (file.lines[i].find("include") != std::string::npos &&
        std::regex_search(file.lines[i], match, kPattern)) {
      includes.push_back({match[1], static_cast<int>(i) + 1});
    }
  }
  return includes;
}

}  // namespace ultraspeed::tidy
