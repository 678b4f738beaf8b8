// Who may include whom. The table is the design's; ARCHITECTURE.md draws it.
#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

#include "tidy/rules.h"

namespace ultraspeed::tidy {
namespace {

// Modules that each module may include and link; base is open to all, apps may use everything.
const std::map<std::string, std::set<std::string>>& module_table() {
  static const std::map<std::string, std::set<std::string>> kTable = {
      {"base", {}},
      {"tensor", {}},
      {"model", {"tensor"}},
      {"program", {"tensor"}},
      {"plan", {"model", "program"}},
      {"cpu", {"program", "tensor"}},
      {"cuda", {"program", "tensor"}},
      {"engine", {"plan", "model", "program"}},
      {"text", {}},
      {"grammar", {}},
      {"net", {}},
      {"hub", {"net"}},
      {"access", {}},
      {"server", {"engine", "text", "grammar", "net", "access"}},
      {"quantize", {"model", "tensor"}},
      {"train", {"model", "tensor", "text"}},
      {"apps",
       {"tensor", "model", "program", "plan", "cpu", "cuda", "engine", "text", "grammar", "net",
        "hub", "access", "server", "quantize", "train"}},
  };
  return kTable;
}

bool may_use(const std::string& module, const std::string& other) {
  const auto row = module_table().find(module);
  return module == other || other == "base" ||
         (row != module_table().end() && row->second.contains(other));
}

// "src/cpu/ops/gather.cc" -> "cpu"; empty outside src/.
std::string module_of(const std::string& path) {
  if (!path.starts_with("src/")) return "";
  const size_t end = path.find('/', 4);
  return end == std::string::npos ? "" : path.substr(4, end - 4);
}

// What a module must not mention: it would mean that a concern leaked into it.
struct Ignorance {
  std::vector<std::string> modules;
  std::regex pattern;
  bool in_comments;  // whether a comment or a string counts too
  std::string why;
};

const std::vector<Ignorance>& ignorance_table() {
  static const std::vector<Ignorance> kTable = {
      {{"cpu", "cuda"},
       std::regex("mimo|llama|qwen|self_attn|model\\.layers", std::regex::icase),
       true,
       "executors do not know models; name the operation, not the checkpoint"},
      {{"engine"},
       std::regex("boost|simdjson|nlohmann|zmq"),
       false,
       "the engine knows neither HTTP nor JSON nor sockets; that is server/ or apps/"},
  };
  return kTable;
}

// The value of "KEYWORD a b c" inside "add_module(... )", up to the next keyword.
std::vector<std::string> cmake_arguments(const std::string& call, const std::string& keyword) {
  std::istringstream stream(call);
  std::vector<std::string> values;
  bool inside = false;
  for (std::string word; stream >> word;) {
    const bool is_keyword = word == "SOURCES" || word == "DEPS" || word == "LIBS";
    if (is_keyword) inside = word == keyword;
    if (inside && !is_keyword) values.push_back(word);
  }
  return values;
}

// The text between the parentheses of add_module(...), or empty; comments removed.
std::string add_module_call(const SourceFile& cmake) {
  std::string text;
  for (const std::string& line : cmake.lines) text += line.substr(0, line.find('#')) + "\n";
  const size_t begin = text.find("add_module(");
  if (begin == std::string::npos) return "";
  const size_t open = begin + std::string("add_module(").size();
  return text.substr(open, text.find(')', open) - open);
}

// Modules that the non-test sources of a module include, base and itself aside.
std::set<std::string> included_modules(const SourceTree& tree, const std::string& module) {
  std::set<std::string> modules;
  for (const SourceFile& file : tree.files) {
    if (!file.is_cpp() || file.is_test() || module_of(file.path) != module) continue;
    for (const Include& include : quoted_includes(file)) {
      const std::string other = module_of("src/" + include.target);
      if (other != module && other != "base" && module_table().contains(other)) {
        modules.insert(other);
      }
    }
  }
  return modules;
}

}  // namespace

void check_module_includes(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    const std::string module = module_of(file.path);
    if (!file.is_cpp() || module.empty()) continue;
    if (!module_table().contains(module)) {
      out->push_back({file.path, 0, fmt::format("'{}' is no module of the design", module)});
      continue;
    }
    for (const Include& include : quoted_includes(file)) {
      const std::string other = module_of("src/" + include.target);
      if (module_table().contains(other) && !may_use(module, other)) {
        out->push_back(
            {file.path, include.line, fmt::format("{} may not include {}", module, other)});
      }
    }
  }
}

void check_module_links(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    const std::string module = module_of(file.path);
    if (file.name() != "CMakeLists.txt" || file.folder() != "src/" + module) continue;
    const std::string call = add_module_call(file);
    if (call.empty()) continue;
    const std::vector<std::string> deps = cmake_arguments(call, "DEPS");
    for (const std::string& dep : deps) {
      if (!may_use(module, dep)) {
        out->push_back({file.path, 0, fmt::format("{} may not link {}", module, dep)});
      }
    }
    for (const std::string& other : included_modules(tree, module)) {
      if (std::find(deps.begin(), deps.end(), other) == deps.end()) {
        out->push_back(
            {file.path, 0, fmt::format("{} includes {} but DEPS does not list it", module, other)});
      }
    }
  }
}

void check_module_ignorance(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    if (!file.is_cpp() || file.is_test()) continue;
    for (const Ignorance& rule : ignorance_table()) {
      const std::string module = module_of(file.path);
      if (std::find(rule.modules.begin(), rule.modules.end(), module) == rule.modules.end()) {
        continue;
      }
      const std::vector<std::string>& lines = rule.in_comments ? file.lines : file.code;
      for (size_t i = 0; i < lines.size(); ++i) {
        std::smatch match;
        if (std::regex_search(lines[i], match, rule.pattern)) {
          out->push_back(
              {file.path, static_cast<int>(i) + 1, fmt::format("'{}': {}", match.str(), rule.why)});
        }
      }
    }
  }
}

// foo.cc includes foo.h first, which proves that foo.h compiles alone.
void check_first_include(const SourceTree& tree, Violations* out) {
  for (const SourceFile& file : tree.files) {
    if (file.extension() != ".cc" || file.is_test()) continue;
    const std::string header = file.folder() + "/" + file.stem() + ".h";
    if (tree.find(header) == nullptr) continue;
    const std::string target = header.substr(header.find('/') + 1);
    for (size_t i = 0; i < file.lines.size(); ++i) {
      if (!file.lines[i].starts_with("#include")) continue;
      if (file.lines[i] != fmt::format("#include \"{}\"", target)) {
        out->push_back({file.path, static_cast<int>(i) + 1,
                        fmt::format("the first include must be \"{}\"", target)});
      }
      break;
    }
  }
}

}  // namespace ultraspeed::tidy
