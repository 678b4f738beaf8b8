// The list of all rules.
#include "tidy/rules.h"

#include <algorithm>
#include <tuple>

namespace ultraspeed::tidy {

Violations check_all(const SourceTree& tree) {
  Violations violations;
  for (const auto rule : {check_module_includes, check_module_links, check_module_ignorance,
                          check_first_include, check_columns, check_lengths, check_words,
                          check_file_names, check_references, check_file_sizes}) {
    rule(tree, &violations);
  }
  std::stable_sort(violations.begin(), violations.end(),
                   [](const Violation& a, const Violation& b) {
                     return std::tie(a.path, a.line) < std::tie(b.path, b.line);
                   });
  return violations;
}

}  // namespace ultraspeed::tidy
