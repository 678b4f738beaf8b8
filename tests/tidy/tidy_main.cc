// tidy ROOT: applies every rule to the tree at ROOT, prints "PATH:LINE: MESSAGE" for each violation
// and exits with 1 if there is one.
#include <fmt/format.h>

#include <algorithm>

#include "tidy/rules.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: tidy ROOT\n");
    return 2;
  }
  const ultraspeed::tidy::SourceTree tree = ultraspeed::tidy::load_tree(argv[1]);
  const ultraspeed::tidy::Violations violations = ultraspeed::tidy::check_all(tree);
  for (const auto& violation : violations) {
    fmt::print("{}:{}: {}\n", violation.path, violation.line, violation.message);
  }
  const bool is_repository = tree.find("CMakeLists.txt") != nullptr;
  if (!is_repository) fmt::print("{}: not the repository root\n", argv[1]);
  fmt::print("{} files, {} violations\n", tree.files.size(), violations.size());
  return violations.empty() && is_repository ? 0 : 1;
}
