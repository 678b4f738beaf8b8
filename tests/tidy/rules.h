// The tidy rules: what CONTRIBUTING.md promises about the tree, as functions from a tree to what
// breaks them. Each rule has a test that shows it firing (tidy_test.cc).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tidy/source_tree.h"

namespace ultraspeed::tidy {

struct Violation {
  std::string path;
  int line = 0;  // 1-based; 0 when the whole file (or tree) is meant
  std::string message;
};
using Violations = std::vector<Violation>;

// Modules (module_rules.cc): includes and CMake links follow the one table of who may use whom, and
// each module keeps the ignorance that the design promises (executors of models, engine of HTTP).
void check_module_includes(const SourceTree& tree, Violations* out);
void check_module_links(const SourceTree& tree, Violations* out);
void check_module_ignorance(const SourceTree& tree, Violations* out);
void check_first_include(const SourceTree& tree, Violations* out);

// Sizes (size_rules.cc): columns, lines a file, lines a function. allow_list.txt holds exceptions
// ("file|function PATH LIMIT"); a limit above what the file needs is a violation too, so that the
// list can only shrink.
void check_columns(const SourceTree& tree, Violations* out);
void check_lengths(const SourceTree& tree, Violations* out);

// Words (word_rules.cc): constructs and markers that the project does without.
void check_words(const SourceTree& tree, Violations* out);

// Files (file_rules.cc): names, unreferenced sources, large binaries, the size of the tree.
void check_file_names(const SourceTree& tree, Violations* out);
void check_references(const SourceTree& tree, Violations* out);
void check_file_sizes(const SourceTree& tree, Violations* out);

// All of the above, sorted by path and line.
Violations check_all(const SourceTree& tree);

// A function body found by its braces: the lines from its opening to its closing brace.
struct FunctionExtent {
  int first_line = 0;
  int line_count = 0;
};
std::vector<FunctionExtent> find_functions(const std::vector<std::string>& code);

}  // namespace ultraspeed::tidy
