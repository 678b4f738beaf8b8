// A table for a terminal or for a Markdown page.
#pragma once

#include <string>
#include <vector>

namespace ultraspeed::apps {

struct TextTable {
  std::vector<std::string> head;
  size_t num_names = 1;  // columns at the left that are words; the others are numbers
  // A shorter row ends with a sentence in place of the rest.
  std::vector<std::vector<std::string>> rows;
};

// Names to the left, numbers to the right; every line ends with a newline.
std::string plain_table(const TextTable& table);
std::string markdown_table(const TextTable& table);

}  // namespace ultraspeed::apps
