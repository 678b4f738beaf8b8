#include "apps/text_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace ultraspeed::apps {
namespace {

using Row = std::vector<std::string>;

std::string plain_row(const Row& row, size_t num_names, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t i = 0; i < row.size(); ++i) {
    if (i > 0) line += "  ";
    const bool is_sentence = row.size() < widths.size() && i + 1 == row.size();
    line += is_sentence     ? row[i]
            : i < num_names ? fmt::format("{:<{}}", row[i], widths[i])
                            : fmt::format("{:>{}}", row[i], widths[i]);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

// Cells must not end early.
std::string markdown_row(const Row& row, size_t num_columns) {
  std::string line = "|";
  for (size_t i = 0; i < num_columns; ++i) {
    line += ' ';
    for (const char c : i < row.size() ? row[i] : std::string()) {
      if (c == '|' || c == '\\') line += '\\';
      line += c;
    }
    line += " |";
  }
  return line + "\n";
}

}  // namespace

std::string plain_table(const TextTable& table) {
  std::vector<size_t> widths;
  for (const std::string& name : table.head) widths.push_back(name.size());
  for (const Row& row : table.rows) {
    const size_t num_cells = row.size() < widths.size() ? row.size() - 1 : row.size();
    for (size_t i = 0; i < num_cells; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text = plain_row(table.head, table.num_names, widths);
  for (const Row& row : table.rows) text += plain_row(row, table.num_names, widths);
  return text;
}

std::string markdown_table(const TextTable& table) {
  std::string text = markdown_row(table.head, table.head.size()) + "|";
  for (size_t i = 0; i < table.head.size(); ++i) text += i < table.num_names ? "---|" : "---:|";
  text += "\n";
  for (const Row& row : table.rows) text += markdown_row(row, table.head.size());
  return text;
}

}  // namespace ultraspeed::apps
