// The table of banned words, each with what to do instead.
#include <fmt/format.h>

#include <functional>
#include <regex>

#include "tidy/rules.h"

namespace ultraspeed::tidy {
namespace {

// Where a word is looked for: code alone, or every line of every text file that people write.
enum class Where { kCode, kAllText };

struct BannedWord {
  std::regex pattern;
  Where where;
  std::function<bool(const SourceFile&)> is_exempt;
  std::string instead;
};

bool nowhere_exempt(const SourceFile&) {
  return false;
}

// The tidy sources spell the words that they look for.
bool is_tidy_source(const SourceFile& file) {
  return file.path.starts_with("tests/tidy/");
}

const std::vector<BannedWord>& banned_words() {
  static const std::vector<BannedWord> kWords = {
      {std::regex("\\busing\\s+namespace\\b"), Where::kCode,
       [](const SourceFile& file) { return !file.is_header(); },
       "qualify names in headers instead"},
      {std::regex("\\bshared_ptr\\b"), Where::kCode,
       // Asynchronous operations on a socket keep alive what they act on.
       [](const SourceFile& file) {
         return file.path.starts_with("src/net/") || file.path.starts_with("src/hub/") ||
                file.path.starts_with("src/server/");
       },
       "own by value or unique_ptr and lend spans or references"},
      {std::regex("\\bs?rand\\s*\\("), Where::kCode, nowhere_exempt,
       "use base/philox.h with a stated seed"},
      {std::regex("\\b(secure_)?getenv\\b"), Where::kCode,
       [](const SourceFile& file) {
         return file.path.starts_with("src/apps/") || file.path.starts_with("tests/");
       },
       "read the environment in apps/ and pass an option"},
      {std::regex("\\b__?asm(__)?\\b|\\basm\\b"), Where::kCode,
       [](const SourceFile& file) { return file.path.starts_with("src/cuda/ptx/"); },
       "one instruction a function, in cuda/ptx/"},
      {std::regex("\\b(TODO|FIXME|XXX)\\b"), Where::kAllText, is_tidy_source,
       "do it now or open an issue"},
      {std::regex("march=native|mtune=native"), Where::kAllText,
       [](const SourceFile& file) { return is_tidy_source(file) || file.extension() == ".md"; },
       "dispatch at run time; the binary must run on the next machine too"},
      {std::regex("(^|[\\s\"'=(])/(home|work|root|tmp/bash_jobs)/"), Where::kAllText,
       is_tidy_source, "name no machine's own paths"},
      {std::regex("^(<{7}|>{7})( |$)"), Where::kAllText, is_tidy_source,
       "resolve the merge conflict"},
  };
  return kWords;
}

bool is_written_text(const SourceFile& file) {
  return !file.path.starts_with("models/") && !file.path.starts_with("tests/data/") &&
         !file.path.starts_with("configs/") && file.path != "LICENSE";
}

}  // namespace

void check_words(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    if (!is_written_text(file)) continue;
    for (const BannedWord& word : banned_words()) {
      if (word.is_exempt(file)) continue;
      const std::vector<std::string>& lines = word.where == Where::kCode ? file.code : file.lines;
      for (size_t i = 0; i < lines.size(); ++i) {
        std::smatch match;
        if (std::regex_search(lines[i], match, word.pattern)) {
          out->push_back({file.path, static_cast<int>(i) + 1,
                          fmt::format("'{}': {}", match.str(), word.instead)});
        }
      }
    }
  }
}

}  // namespace ultraspeed::tidy
