// The tracked text of a repository as the tidy rules see it: every file below a root except what
// .gitignore excludes by folder, with C++ and CUDA files also in a form without comments, strings
// and character literals, so that a rule about code does not fire on prose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::tidy {

struct SourceFile {
  std::string path;  // relative to the root, with '/'
  uint64_t size_bytes = 0;
  bool is_binary = false;          // a NUL among the first 8 KiB
  std::vector<std::string> lines;  // empty for binary files and for data over 1 MiB
  std::vector<std::string> code;   // C++ and CUDA only: lines with comments and literals blanked

  std::string name() const;       // "task.h"
  std::string stem() const;       // "task"
  std::string extension() const;  // ".h"
  std::string folder() const;     // "src/program"
  bool is_cpp() const;            // .h .cc .cuh .cu
  bool is_header() const;         // .h .cuh
  bool is_test() const;           // *_test.cc, *_fuzz.cc, anything under tests/
};

struct SourceTree {
  std::vector<SourceFile> files;  // sorted by path

  const SourceFile* find(std::string_view path) const;  // nullptr if there is none
};

// REQUIRES: root is a folder.
SourceTree load_tree(const std::filesystem::path& root);

// Replaces comments, string and character literals (raw strings too) by spaces; same line count.
std::vector<std::string> blank_comments_and_literals(const std::vector<std::string>& lines);

// The targets of #include "..." lines with their 1-based line numbers.
struct Include {
  std::string target;
  int line = 0;
};
std::vector<Include> quoted_includes(const SourceFile& file);

}  // namespace ultraspeed::tidy
