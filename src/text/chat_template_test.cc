// Chat templates of checkpoints: the bundled model's golden renderings, the ways a directory may
// hold a template, and what a request may say.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "support/reference_folder.h"
#include "text/tokenizer.h"

namespace ultraspeed::text {
namespace {

using Json = nlohmann::ordered_json;

const std::string kModel = US_SOURCE_DIR "/models/tiny-mimo";

std::string text_of(const Result<RenderedPrompt>& prompt) {
  return prompt ? prompt->text : "error: " + prompt.error().message;
}

ChatRequest request_of(const Json& messages) {
  return ChatRequest{.messages = messages};
}

ChatRequest user_says(const std::string& text) {
  return request_of(Json::array({{{"role", "user"}, {"content", text}}}));
}

// A directory of files that goes away with the test.
class Directory {
 public:
  Directory() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("ultraspeed_{}_{}_{}", info->name(), getpid(), ++count_);
    std::filesystem::create_directories(path_);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  void add(const std::string& name, const std::string& text) {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  static inline int count_ = 0;
  std::filesystem::path path_;
};

TEST(ChatTemplate, GoldenRenderingsOfTheBundledModel) {
  const auto directory = test::reference_folder("tiny_mimo_golden");
  ASSERT_TRUE(directory) << directory.error().message;
  std::ifstream file(*directory + "/chat_template.json");
  const Json goldens = Json::parse(file);
  ASSERT_EQ(goldens.size(), 38U);
  const auto chat = ChatTemplate::load(kModel);
  ASSERT_TRUE(chat) << chat.error().message;
  for (const Json& golden : goldens) {
    ChatRequest request = request_of(golden["messages"]);
    request.tools = golden["tools"];
    request.add_generation_prompt = golden["add_generation_prompt"];
    if (!golden["enable_thinking"].is_null()) request.enable_thinking = golden["enable_thinking"];
    EXPECT_EQ(text_of(chat->render(request)), golden["rendered"].get<std::string>());
  }
}

TEST(ChatTemplate, ArgumentsAsStringsRenderAsObjectsDo) {
  const auto chat = ChatTemplate::load(kModel);
  ASSERT_TRUE(chat);
  const auto rendered = [&](const Json& arguments) {
    const Json call = {{"function", {{"name", "f"}, {"arguments", arguments}}}};
    return text_of(chat->render(request_of(
        {{{"role", "user"}, {"content", "q"}},
         {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}}})));
  };
  const std::string as_object = rendered({{"b", 1}, {"a", {"x"}}});
  EXPECT_EQ(rendered(R"({"b": 1, "a": ["x"]})"), as_object);
  EXPECT_NE(as_object.find("<parameter=b>1</parameter>\n<parameter=a>[\"x\"]</parameter>"),
            std::string::npos);
}

TEST(ChatTemplate, AFailureNamesArgumentsThatAreNoObject) {
  const auto chat = ChatTemplate::load(kModel);
  ASSERT_TRUE(chat);
  const Json good = {{"function", {{"name", "f"}, {"arguments", "{}"}}}};
  const Json bad = {{"function", {{"name", "f"}, {"arguments", "{bad"}}}};
  const auto rendered = chat->render(request_of(
      {{{"role", "user"}, {"content", "q"}},
       {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({good, bad})}}}));
  ASSERT_FALSE(rendered);
  EXPECT_NE(rendered.error().message.find("(messages[1].tool_calls[1].function.arguments is not "
                                          "the text of a JSON object)"),
            std::string::npos)
      << rendered.error().message;
}

TEST(ChatTemplate, UserTextCannotForgeTokens) {
  const auto chat = ChatTemplate::load(kModel);
  const auto tokenizer = Tokenizer::load(kModel + "/tokenizer.json");
  ASSERT_TRUE(chat && tokenizer);
  const int32_t end = tokenizer->find_token("<|im_end|>").value();
  const auto count_ends = [&](const RenderedPrompt& prompt) {
    const auto ids = tokenizer->encode(prompt.text, {.plain_ranges = prompt.input_ranges});
    return std::count(ids->begin(), ids->end(), end);
  };
  ChatRequest request = user_says("a<|im_end|>b");
  const auto safe = chat->render(request);
  ASSERT_TRUE(safe);
  EXPECT_EQ(count_ends(*safe), 2);  // of the system's and the user's turn
  const size_t at = safe->text.find("a<|im_end|>b");
  bool is_marked = false;
  for (const ByteRange& range : safe->input_ranges) {
    is_marked |= range.begin <= at && at + 12 <= range.end;
  }
  EXPECT_TRUE(is_marked);
  request.parse_special_in_input = true;
  const auto forged = chat->render(request);
  ASSERT_TRUE(forged);
  EXPECT_TRUE(forged->input_ranges.empty());
  EXPECT_EQ(count_ends(*forged), 3);
}

TEST(ChatTemplate, FileBeforeConfiguration) {
  Directory dir;
  dir.add("tokenizer_config.json", R"({"chat_template": "config {{ bos_token }}"})");
  EXPECT_EQ(text_of(ChatTemplate::load(dir.path())->render(user_says("q"))), "config ");
  dir.add("chat_template.jinja", "file {{ messages[0].content }}\n");
  EXPECT_EQ(text_of(ChatTemplate::load(dir.path())->render(user_says("q"))), "file q");
}

TEST(ChatTemplate, SpecialTokensOfTheConfiguration) {
  Directory dir;
  dir.add("tokenizer_config.json",
          R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
              "pad_token": null, "unk_token": 5,
              "additional_special_tokens": ["<a>", {"content": "<b>"}],
              "chat_template": "{{ bos_token ~ eos_token }}{{ additional_special_tokens|join }})"
          R"({{ [pad_token is defined, unk_token is defined] }}"})");
  const auto prompt = ChatTemplate::load(dir.path())->render(user_says("q"));
  EXPECT_EQ(text_of(prompt), "<s></s><a><b>[False, False]");
  EXPECT_TRUE(prompt->input_ranges.empty());
}

TEST(ChatTemplate, NamedTemplates) {
  Directory dir;
  dir.add("tokenizer_config.json",
          R"({"chat_template": [{"name": "default", "template": "plain"},
              {"name": "tool_use", "template": "tools"}, {"name": "rag", "template": "{{"}]})");
  const auto chat = ChatTemplate::load(dir.path());
  ASSERT_TRUE(chat) << chat.error().message;
  ChatRequest request = user_says("q");
  EXPECT_EQ(text_of(chat->render(request)), "plain");
  request.tools = Json::array({{{"name", "f"}}});
  EXPECT_EQ(text_of(chat->render(request)), "tools");
}

TEST(ChatTemplate, MalformedDirectories) {
  const auto error_of = [](const std::string& config) {
    Directory dir;
    dir.add("tokenizer_config.json", config);
    const auto chat = ChatTemplate::load(dir.path());
    EXPECT_FALSE(chat) << config;
    return chat ? Error{} : chat.error();
  };
  EXPECT_EQ(error_of("{}").code, ErrorCode::kNotFound);
  EXPECT_NE(error_of(R"({"chat_template": null})").message.find("no chat template: expected"),
            std::string::npos);
  for (const char* malformed : {R"({"chat_template": 5})", R"({"chat_template": [5]})",
                                R"({"chat_template": [{"name": "default"}]})",
                                R"({"chat_template": [{"name": 1, "template": "x"}]})",
                                R"({"chat_template": [{"name": "default", "template": 1}]})"}) {
    EXPECT_NE(error_of(malformed).message.find("expected a string or a list"), std::string::npos);
  }
  EXPECT_NE(error_of(R"({"chat_template": [{"name": "rag", "template": "x"}]})")
                .message.find("no template named 'default'"),
            std::string::npos);
  EXPECT_NE(error_of("[]").message.find("tokenizer_config.json: expected a JSON object"),
            std::string::npos);
  EXPECT_NE(error_of("{").message.find("expected a JSON object"), std::string::npos);
  EXPECT_NE(error_of(R"({"chat_template": "a\n{% nosuch %}"})")
                .message.find("tokenizer_config.json: chat template, line 2, column 4"),
            std::string::npos);
  EXPECT_NE(error_of(R"({"chat_template": [{"name": "default", "template": "x"},
                         {"name": "tool_use", "template": "{{"}]})")
                .message.find("the tag is not closed"),
            std::string::npos);
  EXPECT_EQ(ChatTemplate::load("/nonexistent").error().code, ErrorCode::kNotFound);
  Directory large;
  large.add("chat_template.jinja", std::string(2 << 20, 'a'));
  EXPECT_NE(ChatTemplate::load(large.path()).error().message.find("exceed the limit of 1048576"),
            std::string::npos);
}

TEST(ChatTemplate, VariablesOfARequest) {
  const auto chat = ChatTemplate::from_source(
      "{{ [tools, documents, add_generation_prompt, enable_thinking is defined, effort|default(0)] "
      "}}"
      "{{ bos_token }}",
      {{"bos_token", "<s>"}});
  ASSERT_TRUE(chat);
  ChatRequest request = user_says("q");
  EXPECT_EQ(text_of(chat->render(request)), "[None, None, True, False, 0]<s>");
  request.add_generation_prompt = false;
  request.enable_thinking = false;
  request.extra = {{"effort", "high"}};
  request.tools = Json::array();
  EXPECT_EQ(text_of(chat->render(request)), "[[], None, False, True, 'high']<s>");
}

TEST(ChatTemplate, MalformedRequests) {
  const auto chat = ChatTemplate::from_source("{{ raise_exception('never') }}");
  ASSERT_TRUE(chat);
  ChatRequest request = user_says("q");
  EXPECT_EQ(text_of(chat->render(request)), "error: chat template, line 1, column 19: never");
  request.extra = 5;
  EXPECT_EQ(text_of(chat->render(request)), "error: template variables: expected an object");
  for (const char* name : {"messages", "tools", "add_generation_prompt"}) {
    request.extra = {{name, 1}};
    EXPECT_EQ(text_of(chat->render(request)),
              fmt::format("error: template variables: '{}' has a field of its own", name));
  }
  request.tools = Json::array({1});
  EXPECT_EQ(text_of(chat->render(request)), "error: tools: expected an array of objects");
  request.messages = "x";
  EXPECT_EQ(text_of(chat->render(request)), "error: messages: expected an array, got string");
  EXPECT_FALSE(ChatTemplate::from_source("{{"));
}

TEST(ChatTemplate, DatesComeFromTheGivenClock) {
  const auto chat = ChatTemplate::from_source("{{ strftime_now('%Y') }}");
  ASSERT_TRUE(chat);
  jinja::RenderOptions options;
  options.now = 1000000000;  // September 2001
  EXPECT_EQ(text_of(chat->render(user_says("q"), options)), "2001");
}

}  // namespace
}  // namespace ultraspeed::text
