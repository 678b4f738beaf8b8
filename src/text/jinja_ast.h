// The syntax tree of a template. Nodes live in a Tree's arenas and point at each other freely, so
// that destruction does not recurse; every node knows its byte offset in the template's source.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

enum class ExprKind : uint8_t {
  kConstant,     // constant
  kString,       // text
  kName,         // name
  kTuple,        // operands
  kList,         // operands
  kDict,         // operands: key, value, key, value, ...
  kAttribute,    // operands[0].name
  kItem,         // operands[0][operands[1]]
  kSlice,        // operands[0][operands[1]:operands[2]:operands[3]], any of 1..3 null
  kCall,         // operands[0](arguments)
  kFilter,       // operands[0] | name(arguments); no operand in {% set x | name %}
  kTest,         // operands[0] is name(arguments)
  kNot,          // operands[0]
  kNegative,     // operands[0]
  kPositive,     // operands[0]
  kAnd,          // operands[0], operands[1]
  kOr,           // operands[0], operands[1]
  kBinary,       // operands[0], operands[1], operators[0]
  kCompare,      // operands[0] operators[0] operands[1] operators[1] operands[2] ...
  kConcat,       // operands joined by ~
  kConditional,  // operands[1] if operands[0] else operands[2] (null when there is no else)
};

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Expr;

// One argument of a call; positional when it has no name.
struct Argument {
  std::string name;
  const Expr* value = nullptr;
};

struct Expr {
  ExprKind kind{};
  size_t offset = 0;
  std::string name;
  Text text;
  Value constant;
  std::vector<const Expr*> operands;
  std::vector<Operator> operators;
  std::vector<Argument> arguments;
};

enum class StmtKind : uint8_t {
  kData,        // text
  kPrint,       // value
  kIf,          // branches
  kFor,         // target in value if condition: body, else_body
  kSet,         // target = value
  kSetBlock,    // target = body, filtered by `value` (a chain of kFilter) when not null
  kMacro,       // name(parameters): body
  kGeneration,  // body
  kBreak,
  kContinue,
};

// What an assignment writes to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;         // not empty: name.attribute
  std::vector<Target> elements;  // not empty: a tuple
};

struct Stmt;
using Body = std::vector<const Stmt*>;

// A branch of {% if %}; the one of {% else %} has no condition.
struct Branch {
  const Expr* condition = nullptr;
  Body body;
};

struct Parameter {
  std::string name;
  const Expr* default_value = nullptr;  // null: undefined when not given
};

struct Stmt {
  StmtKind kind{};
  size_t offset = 0;
  std::string name;
  Text text;
  const Expr* value = nullptr;
  const Expr* condition = nullptr;
  Target target;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  Body body;
  Body else_body;
};

struct Tree {
  Body body;
  std::deque<Expr> expressions;
  std::deque<Stmt> statements;
};

}  // namespace ultraspeed::text::jinja
