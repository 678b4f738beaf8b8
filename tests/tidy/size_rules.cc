// Sizes that keep a file readable in one sitting and a function on one screen.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "tidy/rules.h"

namespace ultraspeed::tidy {
namespace {

constexpr int kMaxColumns = 100;
constexpr int kMaxFileLines = 500;
constexpr int kMaxFunctionLines = 70;
constexpr char kAllowListPath[] = "tests/tidy/allow_list.txt";

// Documents that a newcomer reads have their own limits.
const std::map<std::string, int>& document_limits() {
  static const std::map<std::string, int> kLimits = {
      {"README.md", 120}, {"ARCHITECTURE.md", 300}, {"CONTRIBUTING.md", 150}};
  return kLimits;
}

bool is_script(const SourceFile& file) {
  return !file.lines.empty() && file.lines.front().starts_with("#!");
}

bool is_code(const SourceFile& file) {
  const std::string ext = file.extension();
  return file.is_cpp() || file.name() == "CMakeLists.txt" || ext == ".cmake" || ext == ".sh" ||
         ext == ".awk" || ext == ".mjs" || ext == ".js" || is_script(file);
}

// Code points, not bytes: a micro sign is one column.
int column_count(const std::string& line) {
  return static_cast<int>(std::count_if(line.begin(), line.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

// One rule's exceptions: path -> limit, as allow_list.txt states them.
using Allowed = std::map<std::string, int>;

Allowed allowed_for(const SourceTree& tree, const std::string& rule, Violations* out) {
  Allowed allowed;
  const SourceFile* list = tree.find(kAllowListPath);
  if (list == nullptr) return allowed;
  for (size_t i = 0; i < list->lines.size(); ++i) {
    const std::string& line = list->lines[i];
    if (line.empty() || line.starts_with("#")) continue;
    std::istringstream stream(line);
    std::string kind;
    std::string path;
    int limit = 0;
    const bool is_valid =
        (stream >> kind >> path >> limit) && (kind == "file" || kind == "function");
    if (!is_valid && rule == "file") {
      out->push_back({kAllowListPath, static_cast<int>(i) + 1,
                      "expected 'file PATH LINES' or 'function PATH LINES'"});
    } else if (is_valid && kind == rule) {
      allowed[path] = limit;
    }
  }
  return allowed;
}

// Compares one measured length with its limit and keeps the exception, if any, exact.
void check_length(const SourceFile& file, const std::string& what, int line, int actual,
                  int general_limit, Allowed* allowed, Violations* out) {
  const auto exception = allowed->find(file.path);
  const int limit = exception == allowed->end() ? general_limit : exception->second;
  if (actual > limit) {
    out->push_back({file.path, line,
                    fmt::format("{} of {} lines; at most {} are allowed", what, actual, limit)});
  } else if (exception != allowed->end() && actual < limit) {
    out->push_back({kAllowListPath, 0,
                    fmt::format("{} needs {} lines now: {}", file.path, actual,
                                actual > general_limit ? "lower its limit" : "remove its entry")});
  }
  if (exception != allowed->end()) allowed->erase(exception);
}

void report_unused(const Allowed& allowed, Violations* out) {
  for (const auto& [path, limit] : allowed) {
    out->push_back({kAllowListPath, 0, fmt::format("{} needs no exception: remove it", path)});
  }
}

bool has_word(const std::string& text, const std::string& word) {
  const auto is_identifier = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_identifier(text[at - 1])) &&
        (end == text.size() || !is_identifier(text[end]))) {
      return true;
    }
  }
  return false;
}

enum class BraceKind { kScope, kFunction, kOther };

// What a '{' opens, from the text since the last ';', '{' or '}'.
BraceKind classify_brace(const std::string& before) {
  const bool has_parameters = before.find('(') != std::string::npos && !has_word(before, "alignas");
  for (const char* word : {"namespace", "class", "struct", "union", "enum", "extern"}) {
    if (has_word(before, word) && !has_parameters) return BraceKind::kScope;
  }
  return before.find(')') != std::string::npos ? BraceKind::kFunction : BraceKind::kOther;
}

}  // namespace

std::vector<FunctionExtent> find_functions(const std::vector<std::string>& code) {
  std::vector<FunctionExtent> functions;
  std::vector<BraceKind> open;  // enclosing braces, outermost first
  std::string before;
  int function_line = 0;
  size_t function_depth = 0;  // of the function being measured; 0 for none
  bool is_directive = false;
  for (size_t i = 0; i < code.size(); ++i) {
    const size_t first = code[i].find_first_not_of(" \t");
    const bool starts_directive = first != std::string::npos && code[i][first] == '#';
    const bool skip = is_directive || starts_directive;
    is_directive = skip && code[i].ends_with('\\');
    if (skip) continue;
    for (const char c : code[i]) {
      if (c == '{') {
        open.push_back(classify_brace(before));
        if (function_depth == 0 && open.back() == BraceKind::kFunction) {
          function_depth = open.size();
          function_line = static_cast<int>(i) + 1;
        }
      } else if (c == '}' && !open.empty()) {
        if (function_depth == open.size()) {
          functions.push_back({function_line, static_cast<int>(i) + 2 - function_line});
          function_depth = 0;
        }
        open.pop_back();
      }
      if (c == '{' || c == '}' || c == ';') {
        before.clear();
      } else {
        before += c;
      }
    }
    before += ' ';
  }
  return functions;
}

void check_columns(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    if (!is_code(file)) continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      const int columns = column_count(file.lines[i]);
      if (columns > kMaxColumns) {
        out->push_back({file.path, static_cast<int>(i) + 1,
                        fmt::format("{} columns; at most {}", columns, kMaxColumns)});
      }
    }
  }
}

void check_lengths(const SourceTree& tree, Violations* out) {
  Allowed files = allowed_for(tree, "file", out);
  Allowed functions = allowed_for(tree, "function", out);
  for (const SourceFile& file : tree.files) {
    const auto line_count = static_cast<int>(file.lines.size());
    const auto document = document_limits().find(file.path);
    if (document != document_limits().end()) {
      check_length(file, "a document", 0, line_count, document->second, &files, out);
    } else if (is_code(file)) {
      check_length(file, "a file", 0, line_count, kMaxFileLines, &files, out);
    }
    if (!file.is_cpp()) continue;
    FunctionExtent longest;
    for (const FunctionExtent& function : find_functions(file.code)) {
      if (function.line_count > longest.line_count) longest = function;
      if (function.line_count > kMaxFunctionLines && !functions.contains(file.path)) {
        out->push_back({file.path, function.first_line,
                        fmt::format("a function of {} lines; at most {} are allowed",
                                    function.line_count, kMaxFunctionLines)});
      }
    }
    if (functions.contains(file.path)) {
      check_length(file, "a function", longest.first_line, longest.line_count, kMaxFunctionLines,
                   &functions, out);
    }
  }
  report_unused(files, out);
  report_unused(functions, out);
}

}  // namespace ultraspeed::tidy
