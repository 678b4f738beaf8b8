#include "apps/completions_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "apps/flag_sources.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

// Calls visit(path, command) for the program ("") and each command below it ("bench decode").
void for_each_command(CLI::App& app, const std::string& path,
                      const std::function<void(const std::string&, CLI::App&)>& visit) {
  visit(path, app);
  for (CLI::App* child : app.get_subcommands({})) {
    if (child->get_name().empty() || child->get_group().empty()) continue;  // a group, or hidden
    for_each_command(*child, path.empty() ? child->get_name() : path + " " + child->get_name(),
                     visit);
  }
}

void for_each_shown_option(CLI::App& command, const std::function<void(CLI::Option&)>& visit) {
  for_each_option(command, [&visit](CLI::Option& option) {
    if (!option.get_group().empty()) visit(option);
  });
}

// Commands below it and long flags, with what they do.
void for_each_word(CLI::App& command,
                   const std::function<void(const std::string&, const std::string&)>& visit) {
  for (CLI::App* child : command.get_subcommands({})) {
    const bool is_shown = !child->get_name().empty() && !child->get_group().empty();
    if (is_shown) visit(child->get_name(), child->get_description());
  }
  for_each_shown_option(command, [&visit](CLI::Option& option) {
    for (const std::string& name : option.get_lnames()) {
      visit("--" + name, option.get_description());
    }
  });
}

// For bash and zsh: finds which command is being typed, and what may come next.
constexpr const char* kShellFunction = R"(_ultraspeed_words() {{
  local path= word
  for word in "$@"; do
    case "${{path:+$path }}$word" in
      {}) path="${{path:+$path }}$word" ;;
    esac
  done
  case "$path" in
{}  esac
}}
)";

std::string shell_function(CLI::App& app) {
  std::string paths, cases;
  for_each_command(app, "", [&](const std::string& path, CLI::App& command) {
    if (!path.empty()) paths += fmt::format("{}\"{}\"", paths.empty() ? "" : " | ", path);
    cases += fmt::format("    \"{}\") echo '", path);
    std::string words;
    for_each_word(command, [&words](const std::string& word, const std::string&) {
      words += (words.empty() ? "" : " ") + word;
    });
    cases += words + "' ;;\n";
  });
  return fmt::format(fmt::runtime(kShellFunction), paths, cases);
}

constexpr const char* kBashEnd = R"(_ultraspeed() {
  local words
  words=$(_ultraspeed_words "${COMP_WORDS[@]:1:COMP_CWORD-1}")
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _ultraspeed ultraspeed
)";

constexpr const char* kZshEnd = R"(_ultraspeed() {
  compadd -- $(_ultraspeed_words "${(@)words[2,CURRENT-1]}")
  _files
}
compdef _ultraspeed ultraspeed
)";

// In single quotes of fish.
std::string fish_word(const std::string& text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return word + "'";
}

constexpr const char* kFishBegin = R"(function __ultraspeed_at
  set -l path
  for word in (commandline -opc)[2..-1]
    string match -q -- '-*' $word; or set -a path $word
  end
  set -l wanted (string split -n ' ' -- $argv[1])
  test "$path[1..2]" = "$wanted[1..2]"; or test "$path[1]" = "$argv[1]"
end
)";

std::string fish_script(CLI::App& app) {
  std::string script = kFishBegin;
  for_each_command(app, "", [&script](const std::string& path, CLI::App& command) {
    for_each_word(command, [&](const std::string& word, const std::string& description) {
      const bool is_flag = word.starts_with("--");
      script += fmt::format("complete -c ultraspeed -n \"__ultraspeed_at '{}'\" {} {} -d {}\n",
                            path, is_flag ? "-l" : "-f -a", is_flag ? word.substr(2) : word,
                            fish_word(description));
    });
  });
  return script;
}

// Text for roff, in which '\' and a '.' at the begin of a line are commands, and '-' a hyphen.
std::string roff(std::string_view text) {
  std::string out = "\\&";
  for (const char c : text) {
    if (c == '\n') {
      out += ' ';
    } else if (c == '\\') {
      out += "\\e";
    } else {
      out += c == '-' ? "\\-" : std::string(1, c);
    }
  }
  return out;
}

Status print_text(const std::string& text) {
  return write_all(STDOUT_FILENO, text);
}

}  // namespace

std::string completion_script(CLI::App& app, std::string_view shell) {
  if (shell == "fish") return fish_script(app);
  return shell_function(app) + (shell == "bash" ? kBashEnd : kZshEnd);
}

std::string man_page(CLI::App& app) {
  std::string page = fmt::format(
      ".TH ULTRASPEED 1\n.SH NAME\nultraspeed \\- {}\n.SH SYNOPSIS\n.B ultraspeed\n.I COMMAND\n"
      "[\\fIFLAGS\\fR]\n",
      roff(app.get_description()));
  for_each_command(app, "", [&page](const std::string& path, CLI::App& command) {
    page += path.empty() ? std::string(".SH FLAGS\n")
                         : fmt::format(".SH ultraspeed {}\n{}\n", roff(path),
                                       roff(command.get_description()));
    for_each_shown_option(command, [&page](CLI::Option& option) {
      page += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(option.get_name(true, true)),
                          roff(option.get_description()));
      if (!option.get_envname().empty()) {
        page += fmt::format(".br\nVariable: {}.\n", roff(option.get_envname()));
      }
    });
  });
  return page;
}

void add_completions_command(CLI::App& app, int* exit_code) {
  const auto shell = std::make_shared<std::string>();
  CLI::App& completions = *app.add_subcommand("completions", "Print completions for a shell");
  completions.add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  const auto finish = [exit_code](const Status& status) {
    *exit_code = status ? 0 : report_error(status.error());
  };
  completions.callback(
      [&app, shell, finish] { finish(print_text(completion_script(app, *shell))); });
  CLI::App& man = *app.add_subcommand("man", "Print the manual page, for man -l -");
  man.callback([&app, finish] { finish(print_text(man_page(app))); });
}

}  // namespace ultraspeed::apps
