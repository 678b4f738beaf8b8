// Hostile templates and inputs end in an error: never a crash, a hang or unbounded memory.
#include <gtest/gtest.h>

#include <chrono>

#include "text/jinja_template.h"

namespace ultraspeed::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

// The message of the error that parsing or rendering gives; "" when both succeed.
std::string message_of(const std::string& source, const Json& context = Json::object(),
                       const Limits& limits = {}) {
  const auto begin = std::chrono::steady_clock::now();
  std::string message;
  auto compiled = Template::parse(source);
  if (!compiled) {
    message = compiled.error().message;
  } else if (auto text = compiled->render(nullptr, context, {limits, 0}); !text) {
    message = text.error().message;
  }
  // Generous for sanitizers and loaded machines; without limits these would run for hours.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(2)) << source;
  return message;
}

void expect_error(const std::string& source, const std::string& part,
                  const Json& context = Json::object(), const Limits& limits = {}) {
  const std::string message = message_of(source, context, limits);
  EXPECT_NE(message.find(part), std::string::npos) << source.substr(0, 100) << "\n" << message;
}

TEST(JinjaLimits, NestedConstructs) {
  constexpr size_t kDeep = 100000;
  const std::string part = "more than 200 nested constructs";
  expect_error("{{ " + repeat("(", kDeep) + "1" + repeat(")", kDeep) + " }}", part);
  expect_error("{{ " + repeat("[", kDeep) + repeat("]", kDeep) + " }}", part);
  expect_error("{{ " + repeat("{1:", kDeep) + "1" + repeat("}", kDeep) + " }}", part);
  expect_error("{{ " + repeat("-", kDeep) + "1 }}", part);
  expect_error("{{ " + repeat("not ", kDeep) + "1 }}", part);
  expect_error("{{ " + repeat("a[", kDeep) + "1" + repeat("]", kDeep) + " }}", part);
  expect_error("{{ " + repeat("1 if 1 else ", kDeep / 2) + "1 }}", part);
  expect_error(repeat("{% if 1 %}", kDeep / 2), part);
  expect_error("{% set " + repeat("(", kDeep) + "a" + repeat(")", kDeep) + " = 1 %}", part);
  EXPECT_EQ(message_of("{{ " + repeat("(", 90) + "1" + repeat(")", 90) + " }}"), "");
}

TEST(JinjaLimits, LongChains) {
  constexpr size_t kLong = 50000;
  const std::string part = "limit of 600 nested evaluations";
  expect_error("{{ 1" + repeat(" + 1", kLong) + " }}", part);
  expect_error("{{ x" + repeat("|list", kLong) + " }}", part, {{"x", Json::array()}});
  expect_error("{{ x" + repeat("[0]", kLong) + " }}", part);
  expect_error("{{ x" + repeat(" or x", kLong) + " }}", part);
  EXPECT_EQ(message_of("{{ 'a'" + repeat(" ~ 'a'", kLong) + " }}"), "");
  EXPECT_EQ(message_of("{{ 1" + repeat(" == 1", kLong) + " }}"), "");
  EXPECT_EQ(message_of("{% if 0 %}" + repeat("{% elif 0 %}", kLong) + "{% endif %}"), "");
}

TEST(JinjaLimits, RecursionOfMacros) {
  expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested evaluations");
  expect_error("{% macro m(a=m()) %}{% endmacro %}{{ m() }}", "nested evaluations");
  expect_error(
      "{% macro m(n) %}{% if n %}{{ m(n - 1) ~ m(n - 1) }}{% endif %}{% endmacro %}"
      "{{ m(60) }}",
      "limit of 1000000 steps", Json::object(), {.max_steps = 1'000'000});
}

TEST(JinjaLimits, Steps) {
  const std::string loop = "{% for x in r %}";
  const std::string source =
      "{% set r = range(100000) %}" + repeat(loop, 3) + repeat("{% endfor %}", 3);
  expect_error(source, "limit of 20000000 steps");
  expect_error("{% for x in range(10) %}{% endfor %}", "limit of 9 steps", Json::object(),
               {.max_steps = 9});
  expect_error("{% for x in l %}{{ x in l }}{% endfor %}", "steps",
               {{"l", std::vector<int>(20000, 1)}, {"x", -1}}, {.max_steps = 30000});
}

TEST(JinjaLimits, SearchingInRepetitiveText) {
  const Json context = {{"t", std::string(1 << 20, 'a')}, {"w", std::string(1 << 19, 'a') + "b"}};
  for (const char* source : {"{{ w in t }}", "{{ t.find(w) }}", "{{ t.split(w)|length }}",
                             "{{ t|replace(w, '')|length }}", "{{ t.count(w) }}"}) {
    EXPECT_EQ(message_of(source, context), "") << source;
  }
  expect_error("{{ t.rfind(w) }}", "limit of 20000000 steps", context);
  expect_error("{{ t.rsplit(w) }}", "limit of 20000000 steps", context);
}

TEST(JinjaLimits, WorkingMemory) {
  const std::string part = "bytes of working memory";
  const Limits unhurried = {.max_steps = UINT64_MAX, .max_heap_bytes = 1 << 24};
  const Limits small = {.max_heap_bytes = 1 << 20};
  expect_error("{{ 'a' * 10 ** 12 }}", part, Json::object(), unhurried);
  expect_error("{{ ([0] * 10 ** 12)|length }}", part, Json::object(), unhurried);
  expect_error("{{ 'a'|indent(10 ** 12) }}", part, Json::object(), unhurried);
  expect_error("{{ {'a': 1}|tojson(indent=10 ** 12) }}", part, Json::object(), unhurried);
  expect_error(
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
      "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      part);
  expect_error(
      "{% set ns = namespace(s=['ab']) %}{% for i in range(60) %}"
      "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      part);
  expect_error(
      "{% set ns = namespace(s='aa') %}{% for i in range(60) %}"
      "{% set ns.s = ns.s|replace('aa', 'aaaaaaaaaaaa') %}{% endfor %}",
      part, Json::object(), unhurried);
  expect_error("{{ range(100000)|list|length }}", part, Json::object(), small);
  expect_error("{{ ('a' * 100000)|list|length }}", part, Json::object(), small);
  expect_error("{{ ('a ' * 100000).split()|length }}", part, Json::object(), small);
  expect_error("{{ x|length }}", part, {{"x", std::string(2 << 20, 'a')}}, small);
}

TEST(JinjaLimits, Output) {
  const Limits small = {.max_output_bytes = 1000};
  expect_error("{% for x in range(1000) %}ab{% endfor %}", "limit of 1000 bytes of output",
               Json::object(), small);
  expect_error(std::string(1001, 'a'), "bytes of output", Json::object(), small);
  EXPECT_EQ(message_of(std::string(1000, 'a'), Json::object(), small), "");
}

TEST(JinjaLimits, Range) {
  expect_error("{{ range(100001) }}", "100001 elements exceed the limit of 100000");
  expect_error("{{ range(2 ** 100) }}", "a bound exceeds 64 bits");
  EXPECT_EQ(message_of("{{ range(100000)|length }}"), "");
  EXPECT_EQ(message_of("{{ range(0, 10 ** 15, 10 ** 11)|length }}"), "");
}

TEST(JinjaLimits, CyclicAndSharedValues) {
  const std::string cyclic = "{% set l = [1] %}{% set x = l.append(l) %}";
  expect_error(cyclic + "{{ l }}", "nested evaluations");
  expect_error(cyclic + "{{ l|tojson }}", "nested evaluations");
  expect_error("{% set k = [1] %}{% set x = k.append(k) %}" + cyclic + "{{ l == k }}",
               "nested evaluations");
  expect_error(cyclic + "{{ l|string }}", "nested evaluations");
  const std::string shared =
      "{% set ns = namespace(l=[0]) %}{% for i in range(200) %}"
      "{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
  expect_error(shared + "{{ ns.l }}", "exceeds the limit");
  expect_error(shared + "{{ ns.l|tojson|length }}", "exceeds the limit");
  expect_error(shared + "{% set a = ns.l %}{% set ns.l = [0] %}" +
                   shared.substr(shared.find("{% for")) + "{{ a == ns.l }}",
               "exceeds the limit");
}

TEST(JinjaLimits, DeepInput) {
  Json deep = Json::array();
  for (int i = 0; i < 700; ++i) deep = Json::array({std::move(deep)});
  expect_error("a", "template variable 'x': rendering exceeds the limit of 600 nested evaluations",
               {{"x", std::move(deep)}});
}

TEST(JinjaLimits, ChangingWhatALoopRunsOver) {
  EXPECT_EQ(message_of("{% set l = [1] %}{% for x in l %}{{ l.append(x) or '' }}{% endfor %}"), "");
}

}  // namespace
}  // namespace ultraspeed::text::jinja
