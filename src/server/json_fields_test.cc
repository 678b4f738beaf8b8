#include "server/json_fields.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace ultraspeed::server {
namespace {

std::string error_of(std::string_view text) {
  const auto json = parse_json(text);
  return json ? "no error" : json.error().message;
}

std::string repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(ParseJsonTest, SyntaxErrorsHaveAPosition) {
  EXPECT_TRUE(error_of("{\"a\": 1,\n \"b\": }")
                  .starts_with("The request's body is not valid JSON: parse error at line 2, "
                               "column 7: "))
      << error_of("{\"a\": 1,\n \"b\": }");
  for (const char* bad : {"", "{", "{}x", "{'a':1}", "[1,]", "nul", "\"\\ud800\"", "\"\xff\"",
                          "\"\xc3\"", "\"\\x\"", "01", "\"a\nb\""}) {
    EXPECT_NE(error_of(bad).find("column"), std::string::npos) << bad << ": " << error_of(bad);
  }
  EXPECT_EQ(error_of("{\"a\":1e999}"),
            "The request's body is not valid JSON: number overflow parsing '1e999'.");
  EXPECT_EQ(error_of(std::string("{}\0", 3)), "The JSON has a zero byte.");
}

TEST(ParseJsonTest, KeepsTheOrderOfMembers) {
  EXPECT_EQ(parse_json(R"({"b":1,"a":{"d":2,"c":3}})")->dump(), R"({"b":1,"a":{"d":2,"c":3}})");
}

TEST(ParseJsonTest, BoundsDepth) {
  EXPECT_EQ(error_of(repeat("[", kMaxJsonDepth) + repeat("]", kMaxJsonDepth)), "no error");
  const std::string expected = "The JSON is nested deeper than 64 levels.";
  EXPECT_EQ(error_of(repeat("[", kMaxJsonDepth + 1)), expected);
  EXPECT_EQ(error_of(repeat("{\"a\":", 1'000'000)), expected);
  EXPECT_EQ(error_of("\"" + repeat("[", 1000) + "\\\"" + repeat("{", 1000) + "\""), "no error");
  EXPECT_NE(error_of(repeat("]", 1000)), "no error");
}

TEST(ParseJsonTest, BoundsMembersAndValues) {
  std::string object = "{\"0\":0";
  for (size_t i = 1; i < kMaxJsonMembers; ++i) object += fmt::format(",\"{}\":{}", i, i);
  EXPECT_EQ(error_of(object + "}"), "no error");
  EXPECT_EQ(error_of(object + ",\"x\":0}"), "A JSON object has more than 1024 members.");
  EXPECT_EQ(error_of("[0" + repeat(",0", 5000) + "]"), "no error");
  EXPECT_EQ(error_of("[0" + repeat(",0", kMaxJsonValues) + "]"),
            "The JSON has more than 2097152 values.");
}

TEST(ParseJsonTest, WantsAnObject) {
  EXPECT_TRUE(parse_json_object("{}"));
  EXPECT_EQ(parse_json_object("[1]").error().message,
            "The request's body must be a JSON object, not an array.");
  EXPECT_EQ(parse_json_object("null").error().code, "invalid_json");
}

class FieldsTest : public testing::Test {
 protected:
  const Json json_ = *parse_json(
      R"({"null":null,"yes":true,"text":"t","int":-7,"big":18446744073709551615,"real":0.25,
          "object":{"inner":3},"array":[1]})");
  const Fields fields_{json_};
};

TEST_F(FieldsTest, ReadsEachType) {
  bool yes = false;
  std::string text;
  int64_t integer = 0;
  float number = 0;
  const Json* object = nullptr;
  const Json* array = nullptr;
  EXPECT_TRUE(fields_.read("yes", &yes) && yes);
  EXPECT_TRUE(fields_.read("text", &text) && text == "t");
  EXPECT_TRUE(fields_.read_integer("int", -10, 10, &integer) && integer == -7);
  EXPECT_TRUE(fields_.read_number("real", 0, 1, &number) && number == 0.25F);
  EXPECT_TRUE(fields_.read_number("int", -10, 1, &number) && number == -7);
  EXPECT_TRUE(fields_.read_object("object", &object) && object != nullptr);
  EXPECT_TRUE(fields_.read_array("array", &array) && array != nullptr);
}

TEST_F(FieldsTest, AbsentAndNullLeaveTheDefault) {
  for (const char* name : {"null", "absent"}) {
    bool yes = true;
    std::string text = "default";
    int64_t integer = 5;
    float number = 6;
    const Json* object = &json_;
    EXPECT_TRUE(fields_.read(name, &yes) && yes);
    EXPECT_TRUE(fields_.read(name, &text) && text == "default");
    EXPECT_TRUE(fields_.read_integer(name, 0, 1, &integer) && integer == 5);
    EXPECT_TRUE(fields_.read_number(name, 0, 1, &number) && number == 6);
    EXPECT_TRUE(fields_.read_object(name, &object) && object == &json_);
    EXPECT_TRUE(fields_.read_array(name, &object) && object == &json_);
    EXPECT_EQ(fields_.find(name), nullptr);
  }
}

TEST_F(FieldsTest, ErrorsNameFieldTypeAndRange) {
  const Json nested = *parse_json(R"({"field":"x"})");
  bool yes = false;
  const ApiStatus status = Fields(nested, "a.b[2]").read("field", &yes);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().param, "a.b[2].field");
  EXPECT_EQ(status.error().message, "'a.b[2].field' must be true or false, not a string.");
  EXPECT_EQ(status.error().status, 400U);

  std::string text;
  int64_t integer = 0;
  float number = 0;
  const Json* pointer = nullptr;
  EXPECT_EQ(fields_.read("yes", &text).error().message, "'yes' must be a string, not a boolean.");
  EXPECT_EQ(fields_.read_integer("real", 0, 9, &integer).error().message,
            "'real' must be an integer, not a floating-point number.");
  EXPECT_EQ(fields_.read_integer("int", 0, 9, &integer).error().message,
            "'int' is -7; it must be between 0 and 9.");
  EXPECT_EQ(fields_.read_integer("big", -1, INT64_MAX, &integer).error().message,
            "'big' is 18446744073709551615; it must be between -1 and 9223372036854775807.");
  EXPECT_EQ(fields_.read_number("text", 0, 9, &number).error().message,
            "'text' must be a number, not a string.");
  EXPECT_EQ(fields_.read_number("int", -2, 2, &number).error().message,
            "'int' is -7; it must be between -2 and 2.");
  EXPECT_EQ(fields_.read_object("array", &pointer).error().message,
            "'array' must be an object, not an array.");
  EXPECT_EQ(fields_.read_array("object", &pointer).error().message,
            "'object' must be an array, not an object.");
}

}  // namespace
}  // namespace ultraspeed::server
