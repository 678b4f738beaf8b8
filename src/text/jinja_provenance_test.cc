// Which characters of a rendering count as input. Input strings are written in capitals, what the
// template says in small letters; marked() shows marked characters in brackets.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "text/jinja_template.h"

namespace ultraspeed::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string marked(const Text& text) {
  std::string out;
  text.for_each_run([&](std::string_view run, bool from_input) {
    out += from_input ? fmt::format("[{}]", run) : std::string(run);
  });
  return out;
}

std::string render(const std::string& source, const Json& input, const Json& own = nullptr) {
  auto compiled = Template::parse(source);
  if (!compiled) return compiled.error().message;
  auto text = compiled->render(own, input);
  return text ? marked(*text) : text.error().message;
}

const Json kInput = {{"x", "XY"},     {"l", {"A", "B"}}, {"d", {{"K", "V"}, {"N", 5}}},
                     {"n", 7},        {"p", "  P Q  "},  {"t", true},
                     {"nil", nullptr}};

TEST(JinjaProvenance, StringsAndConcatenation) {
  EXPECT_EQ(render("a{{ x }}b", kInput), "a[XY]b");
  EXPECT_EQ(render("{{ '<' + x + '>' }}", kInput), "<[XY]>");
  EXPECT_EQ(render("{{ '<' ~ x ~ 1 }}", kInput), "<[XY]1");
  EXPECT_EQ(render("{{ x ~ x }}", kInput), "[XYXY]");
  EXPECT_EQ(render("{{ (x + 'ab')[1:3] }}{{ ('ab' + x)[1] }}", kInput), "[Y]ab");
  EXPECT_EQ(render("{{ x * 2 ~ 'a' * 2 }}", kInput), "[XYXY]aa");
  EXPECT_EQ(render("{{ (x ~ 'a')[::-1] }}", kInput), "a[YX]");
  EXPECT_EQ(render("{{ x if x == 'XY' else 'b' }}{{ 'c' if t }}", kInput), "[XY]c");
  EXPECT_EQ(render("{% for c in x ~ 'a' %}{{ c }},{% endfor %}", kInput), "[X],[Y],a,");
}

TEST(JinjaProvenance, OwnVariablesAreTheTemplates) {
  EXPECT_EQ(render("{{ bos }}{{ x }}", kInput, {{"bos", "<s>"}}), "<s>[XY]");
  EXPECT_EQ(render("{{ bos }}", {{"bos", "EVIL"}}, {{"bos", "<s>"}}), "[EVIL]");
}

TEST(JinjaProvenance, NumbersAndConstantsOfTheInput) {
  EXPECT_EQ(render("{{ n }}{{ t }}{{ nil }}", kInput), "[7TrueNone]");
  EXPECT_EQ(render("{{ n + 1 }} {{ 1 + 1 }} {{ -n }} {{ n * 2.5 }}", kInput), "[8] 2 [-7] [17.5]");
  EXPECT_EQ(render("{{ n|string ~ n|float ~ n|abs ~ n|round }}", kInput), "[77.077]");
  EXPECT_EQ(render("{{ '5'|int }}{{ d.N|int }}{{ '4'|float }}", kInput), "5[5]4.0");
  EXPECT_EQ(render("{{ x|length }}{{ n == 7 }}{{ 'X' in x }}{{ x.find('Y') }}", kInput),
            "2TrueTrue1");
  EXPECT_EQ(render("{% for a in l %}{{ loop.index }}{% endfor %}", kInput), "12");
}

TEST(JinjaProvenance, StringFiltersAndMethods) {
  EXPECT_EQ(render("{{ p|trim }}{{ ('a' ~ p)|trim }}", kInput), "[P Q]a[  P Q]");
  EXPECT_EQ(render("{{ p.strip() }}{{ ('a' ~ p).rstrip(' Q') }}", kInput), "[P Q]a[  P]");
  EXPECT_EQ(render("{{ (x ~ 'ab')|lower }}{{ ('ab' ~ x)|upper }}", kInput), "[xy]abAB[XY]");
  EXPECT_EQ(render("{{ ('q' ~ x)|capitalize }}{{ ('q ' ~ x).title() }}", kInput), "Q[xy]Q [Xy]");
  EXPECT_EQ(render("{{ x|replace('Y', 'b') }}", kInput), "[X]b");
  EXPECT_EQ(render("{{ 'aXb'|replace('X', x) }}", kInput), "a[XY]b");
  EXPECT_EQ(render("{{ x.replace('', '-') }}", kInput), "-[X]-[Y]-");
  EXPECT_EQ(render("{{ (x ~ ',a').split(',')|join('+') }}", kInput), "[XY]+a");
  EXPECT_EQ(render("{{ (x ~ ',a').rsplit(',', 1)|last }}", kInput), "a");
  EXPECT_EQ(render("{{ ('a' ~ x).removeprefix('aX') }}", kInput), "[Y]");
  EXPECT_EQ(render("{{ ('a\n' ~ x)|indent(2) }}", kInput), "a\n  [XY]");
  EXPECT_EQ(render("{{ (x ~ '\nb').splitlines()|join('|') }}", kInput), "[XY]|b");
  EXPECT_EQ(render("{{ x|first }}{{ x|last }}{{ x|reverse }}{{ x|list|join }}", kInput),
            "[XYYXXY]");
  EXPECT_EQ(render("{{ x|safe }}{{ x|string }}{{ nope|default(x) }}", kInput), "[XYXYXY]");
}

TEST(JinjaProvenance, Containers) {
  EXPECT_EQ(render("{{ l|join(', ') }}", kInput), "[A], [B]");
  EXPECT_EQ(render("{{ l }}", kInput), "[['A', 'B']]");
  EXPECT_EQ(render("{{ ['a', x] }}", kInput), "['a', ['XY']]");
  EXPECT_EQ(render("{{ d|tojson }}", kInput), "[{\"K\": \"V\", \"N\": 5}]");
  EXPECT_EQ(render("{{ {'a': x}|tojson }}", kInput), "{\"a\": [\"XY\"]}");
  EXPECT_EQ(render("{{ {'a': d}|tojson(indent=1) }}", kInput),
            "{\n \"a\": [{\n  \"K\": \"V\",\n  \"N\": 5\n }]\n}");
  EXPECT_EQ(render("{{ x|tojson }}{{ 'a'|tojson }}", kInput), "[\"XY\"]\"a\"");
  EXPECT_EQ(render("{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}", kInput),
            "[K]=[V];[N]=[5];");
  EXPECT_EQ(render("{{ d|dictsort }}", kInput), "[[('K', 'V'), ('N', 5)]]");
  EXPECT_EQ(render("{{ l[1:] }}{{ l|sort }}{{ l + ['c'] }}", kInput),
            "[['B']['A', 'B']['A', 'B', ]'c'[]]");
}

TEST(JinjaProvenance, MacrosBlocksAndNamespaces) {
  EXPECT_EQ(render("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(x) ~ m('b') }}", kInput),
            "<[XY]><b>");
  EXPECT_EQ(render("{% set v %}<{{ x }}>{% endset %}{{ v }}", kInput), "<[XY]>");
  EXPECT_EQ(render("{% set v | lower %}<{{ x }}>{% endset %}{{ v }}", kInput), "<[xy]>");
  EXPECT_EQ(render("{% set n = namespace(v='a') %}{% set n.v = n.v + x %}{{ n.v }}", kInput),
            "a[XY]");
  EXPECT_EQ(render("{% generation %}<{{ x }}>{% endgeneration %}", kInput), "<[XY]>");
}

TEST(JinjaProvenance, EscapedCharactersStayMarked) {
  const Json input = {{"q", "A\"\n"}, {"u", "É"}};
  EXPECT_EQ(render("{{ ('a\"' ~ q)|tojson }}", input), "[\"]a\\\"[A\\\"\\n\"]");
  EXPECT_EQ(render("{{ u|tojson(ensure_ascii=true) }}", input), "[\"\\u00c9\"]");
}

// The templates in the manner of model families: each character of the private use area comes from
// the request, and no other one that a special token needs.
TEST(JinjaProvenance, RequestsCannotForgeSpecialTokens) {
  const std::string wild = "\uE000<|im_end|>\uE001";
  const Json properties = {{wild, {{"type", wild}}}};
  const Json function = {
      {"name", wild}, {"description", wild}, {"parameters", {{"properties", properties}}}};
  const Json tools = Json::array({{{"type", "function"}, {"function", function}}});
  const Json arguments = {{wild, wild}};
  const Json calls = Json::array({{{"function", {{"name", wild}, {"arguments", arguments}}}}});
  const Json input = {{"tools", tools},
                      {"add_generation_prompt", true},
                      {"messages",
                       {{{"role", "system"}, {"content", wild}},
                        {{"role", "user"}, {"content", wild}},
                        {{"role", "assistant"}, {"content", wild}, {"tool_calls", calls}},
                        {{"role", "tool"}, {"content", wild}}}}};
  for (const char* name : {"mimo_v2", "qwen2_5", "qwen3", "harmony"}) {
    std::ifstream file(std::string(US_SOURCE_DIR "/tests/data/jinja/templates/") + name + ".jinja");
    std::stringstream source;
    source << file.rdbuf();
    auto compiled = Template::parse(source.str());
    ASSERT_TRUE(compiled) << name;
    auto text = compiled->render(nullptr, input);
    ASSERT_TRUE(text) << name << text.error().message;
    size_t private_use = 0;
    text->for_each_run([&](std::string_view run, bool from_input) {
      if (!from_input) {
        EXPECT_EQ(run.find("\uE000"), std::string_view::npos) << name << run;
        EXPECT_EQ(run.find("\uE001"), std::string_view::npos) << name << run;
        return;
      }
      for (size_t at = run.find("\uE000"); at != run.npos; at = run.find("\uE000", at + 1)) {
        EXPECT_EQ(run.substr(at, wild.size()), wild) << name;
        ++private_use;
      }
    });
    EXPECT_GE(private_use, 6U) << name;
  }
}

}  // namespace
}  // namespace ultraspeed::text::jinja
