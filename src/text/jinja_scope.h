// Variables at run time. Scopes form chains as Jinja's frames do: the template, one for each run of
// a for loop's body, macro calls and block captures; `if` has none. Macros remember their scope.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

struct Scope {
  explicit Scope(Scope* enclosing) : parent(enclosing) {}

  // The innermost variable of this name, or null.
  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      for (const auto& [key, value] : scope->variables) {
        if (key == name) return &value;
      }
    }
    return nullptr;
  }

  // Writes to this scope alone.
  void set(std::string_view name, const Value& value) {
    for (auto& [key, slot] : variables) {
      if (key == name) {
        slot = value;
        return;
      }
    }
    variables.emplace_back(name, value);
  }

  Scope* parent;
  bool captured = false;  // a macro refers to it, so it must not be reused
  std::vector<std::pair<std::string, Value>> variables;
};

struct Macro {
  const Stmt* definition = nullptr;
  Scope* scope = nullptr;
};

}  // namespace ultraspeed::text::jinja
