// Errors name the construct and its line and column, and tell malformed templates from Jinja that
// the subset leaves out.
#include <gtest/gtest.h>

#include "text/jinja_template.h"

namespace ultraspeed::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

struct Case {
  std::string source;
  ErrorCode code;
  std::string message;
};

Error error_of(const std::string& source, const Json& context = Json::object()) {
  auto compiled = Template::parse(source);
  if (!compiled) return compiled.error();
  auto text = compiled->render(nullptr, context);
  EXPECT_FALSE(text) << "should fail: " << source << " gave " << text->bytes();
  return text ? Error{} : text.error();
}

void expect_errors(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    const Error error = error_of(one.source);
    EXPECT_EQ(error.message, "chat template, " + one.message) << one.source;
    EXPECT_EQ(error.code, one.code) << one.source;
  }
}

TEST(JinjaErrors, MalformedTemplates) {
  constexpr ErrorCode kCode = ErrorCode::kInvalidData;
  expect_errors({
      {"ab\n  {{ x", kCode, "line 2, column 3: the tag is not closed by '}}'"},
      {"{% if x", kCode, "line 1, column 1: the tag is not closed by '%}'"},
      {"é{# x", kCode, "line 1, column 2: the comment is not closed by '#}'"},
      {"{% raw %}x", kCode, "line 1, column 1: {% raw %} is not closed by {% endraw %}"},
      {"{{ 'x }}", kCode, "line 1, column 4: the string is not closed by '"},
      {"{{ '\\u12' }}", kCode, "line 1, column 4: the escape \\u needs 4 hexadecimal digits"},
      {"{{ '\\ud800' }}", kCode, "line 1, column 4: the escape \\ud800 is not a character"},
      {"{{ (1] }}", kCode, "line 1, column 6: unexpected ']', expected ')'"},
      {"{{ ) }}", kCode, "line 1, column 4: unexpected ')'"},
      {"{{ a ? b }}", kCode, "line 1, column 6: unexpected character '?'"},
      {"{{ 1 + }}", kCode, "line 1, column 8: expected an expression, got '}}'"},
      {"{{ a b }}", kCode, "line 1, column 6: expected '}}', got 'b'"},
      {"\n{% if x %}a", kCode, "line 2, column 4: this 'if' has no 'endif'"},
      {"{% for x in y %}a", kCode, "line 1, column 4: this 'for' has no 'endfor'"},
      {"{% set x %}a", kCode, "line 1, column 4: this 'set' has no 'endset'"},
      {"{% endfor %}", kCode, "line 1, column 4: unexpected tag 'endfor'"},
      {"{% if x %}{% endfor %}", kCode, "line 1, column 14: unexpected tag 'endfor'"},
      {"{% for x of y %}{% endfor %}", kCode, "line 1, column 10: expected 'in', got 'of'"},
      {"{% set true = 1 %}", kCode, "line 1, column 8: cannot assign to 'true'"},
      {"{% set = 1 %}", kCode, "line 1, column 8: expected a name to assign to, got '='"},
      {"{% break %}", kCode, "line 1, column 4: 'break' outside of a for loop"},
      {"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", kCode,
       "line 1, column 35: 'continue' outside of a for loop"},
      {"{{ f(a=1, 2) }}", kCode, "line 1, column 11: a positional argument follows a named one"},
      {"{{ x is string is none }}", kCode, "line 1, column 16: tests cannot be chained with 'is'"},
      {"{% macro m(a=1, b) %}{% endmacro %}", kCode,
       "line 1, column 17: the parameter 'b' without a default follows one with a default"},
      {"{{ 999999999999999999999999999999999999999999 }}", kCode,
       "line 1, column 4: the integer exceeds 127 bits"},
      {"{% %}", kCode, "line 1, column 4: expected a tag name, got '%}'"},
      {"{{ x", kCode, "line 1, column 1: the tag is not closed by '}}'"},
  });
}

TEST(JinjaErrors, UnsupportedConstructs) {
  constexpr ErrorCode kCode = ErrorCode::kUnsupported;
  expect_errors({
      {"a\n{% include 'x' %}", kCode, "line 2, column 4: the tag 'include' is not supported"},
      {"{% block b %}", kCode, "line 1, column 4: the tag 'block' is not supported"},
      {"{% call m() %}", kCode, "line 1, column 4: the tag 'call' is not supported"},
      {"{% for x in y recursive %}", kCode,
       "line 1, column 15: 'recursive' in a for loop is not supported"},
      {"{{ x|wordwrap(9) }}", kCode, "line 1, column 6: the filter 'wordwrap' is not supported"},
      {"{{ x is filter }}", kCode, "line 1, column 9: the test 'filter' is not supported"},
      {"{{ f(*args) }}", kCode, "line 1, column 6: '*' in arguments is not supported"},
      {"{{ f(**args) }}", kCode, "line 1, column 6: '**' in arguments is not supported"},
      {"{{ x[1, 2] }}", kCode,
       "line 1, column 7: a subscript with several values is not supported"},
      {"{% macro m() %}{{ varargs }}{% endmacro %}", kCode,
       "line 1, column 19: 'varargs' in a macro is not supported"},
      {"{{ 'a'.casefold() }}", kCode,
       "line 1, column 7: the method 'str.casefold' is not supported"},
      {"{{ {}.update({}) }}", kCode, "line 1, column 6: the method 'dict.update' is not supported"},
      {"{{ [].pop() }}", kCode, "line 1, column 6: the method 'list.pop' is not supported"},
      {"{{ cycler('a') }}", kCode, "line 1, column 4: the global 'cycler' is not supported"},
      {"{{ '%s' % 1 }}", kCode, "line 1, column 9: string formatting with % is not supported"},
      {"{{ {}.items() }}", kCode, "line 1, column 4: printing a dict view is not supported"},
      {"{{ [1]|map('abs') }}", kCode, "line 1, column 4: printing a generator is not supported"},
      {"{{ [1]|map('nosuch')|list }}", kCode,
       "line 1, column 8: filter 'map': the filter 'nosuch' is not supported"},
      {"{{ [1]|select('nosuch')|list }}", kCode,
       "line 1, column 8: filter 'select': the test 'nosuch' is not supported"},
  });
}

TEST(JinjaErrors, FailingRenderings) {
  constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
  expect_errors({
      {"{{ nope.x }}", kCode, "line 1, column 8: 'nope' is undefined"},
      {"{{ {}.a.b }}", kCode, "line 1, column 8: 'dict object' has no attribute 'a'"},
      {"{{ [1][5].b }}", kCode, "line 1, column 10: 'list object' has no element 5"},
      {"{{ nope() }}", kCode, "line 1, column 8: 'nope' is undefined"},
      {"{{ 1() }}", kCode, "line 1, column 5: 'int' object is not callable"},
      {"x\n{{ 'a' +\n 1 }}", kCode,
       "line 2, column 8: unsupported operand types for +: 'str' and 'int'"},
      {"{{ 1 / 0 }}", kCode, "line 1, column 6: division by zero"},
      {"{{ 2 ** 127 }}", kCode, "line 1, column 6: the integer exceeds 127 bits"},
      {"{{ 1 < 'a' }}", kCode,
       "line 1, column 6: 'int' and 'str' cannot be ordered: compare values of one type"},
      {"{{ 'a'|join(x=1) }}", kCode,
       "line 1, column 8: filter 'join': takes no argument named 'x'"},
      {"{{ 'a'.strip(1) }}", kCode,
       "line 1, column 13: str.strip(): argument 'chars' must be a string, not int"},
      {"{{ raise_exception('no ' ~ 1) }}", kCode, "line 1, column 19: no 1"},
      {"{{ range('a') }}", kCode,
       "line 1, column 9: range: argument 'start' must be an integer, not str"},
      {"{% for x in 1 %}{% endfor %}", kCode, "line 1, column 13: 'int' object is not iterable"},
      {"{% set a, b = [1] %}", kCode, "line 1, column 4: cannot unpack 1 value(s) into 2 names"},
      {"{% set x.y = 1 %}", kCode, "line 1, column 4: cannot set 'x.y': 'x' is not a namespace"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", kCode,
       "line 1, column 35: macro 'm' takes at most 1 argument(s)"},
      {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", kCode,
       "line 1, column 35: macro 'm' takes no argument named 'b'"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", kCode,
       "line 1, column 35: macro 'm' got two values for argument 'a'"},
      {"{{ nope|tojson }}", kCode,
       "line 1, column 9: filter 'tojson': a Undefined is not JSON serializable"},
      {"{{ {[]: 1} }}", kCode, "line 1, column 5: unhashable type: 'list'"},
      {"{{ 'abc'['a':] }}", kCode,
       "line 1, column 10: slice bounds must be integers or none, not str"},
      {"{{ 1 is divisibleby }}", kCode,
       "line 1, column 9: test 'divisibleby': needs the argument 'other'"},
      {"{{ strftime_now('') ~ strftime_now('%Z' * 2000) }}", kCode,
       "line 1, column 35: strftime_now: the format gives no text, or more than 4095 bytes"},
  });
}

TEST(JinjaErrors, SourcesAndVariables) {
  EXPECT_EQ(error_of("a\xff").message, "chat template: not valid UTF-8");
  EXPECT_EQ(error_of(std::string((1 << 20) + 1, 'a')).message,
            "chat template: 1048577 bytes exceed the limit of 1048576");
  EXPECT_EQ(error_of("a", Json::array()).message,
            "template variables must be a JSON object, not array");
  EXPECT_EQ(error_of("a", {{"x", {{"y", "\xff"}}}}).message,
            "template variable 'x': template input: a string of 1 bytes is not valid UTF-8");
  EXPECT_EQ(error_of("a", {{"x", Json::binary({1})}}).message,
            "template variable 'x': template input: a binary JSON value cannot be rendered");
}

}  // namespace
}  // namespace ultraspeed::text::jinja
