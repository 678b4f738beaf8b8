// Each rule fires on a tree with exactly one violation of it and is silent on a clean one.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tidy/rules.h"

namespace ultraspeed::tidy {
namespace {

class TidyTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::temp_directory_path() /
            ("tidy_test." + std::to_string(getpid()) + "." +
             testing::UnitTest::GetInstance()->current_test_info()->name());
    write("CMakeLists.txt", "add_subdirectory(src/model)\n");
    write(".gitignore", "/build/\n/tests/npm/node_modules/\n");
    write("src/model/CMakeLists.txt", "add_module(model\n  SOURCES config.cc\n  DEPS tensor)\n");
    write("src/model/config.cc", "#include \"model/config.h\"\n\n#include \"tensor/bf16.h\"\n");
    write("src/model/config.h", "#include \"base/result.h\"\n");
    write("src/base/result.h", "#pragma once\n");
    write("src/tensor/bf16.h", "#pragma once\n");
  }

  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path, std::ios::binary) << text;
  }

  Violations check() const { return check_all(load_tree(root_)); }

  // Expects exactly one violation, at path:line, whose message contains the text.
  void expect_one(const std::string& path, int line, const std::string& text) const {
    const Violations violations = check();
    ASSERT_EQ(violations.size(), 1U) << describe(violations);
    EXPECT_EQ(violations[0].path, path);
    EXPECT_EQ(violations[0].line, line);
    EXPECT_NE(violations[0].message.find(text), std::string::npos) << violations[0].message;
  }

  void expect_clean() const { EXPECT_EQ(describe(check()), ""); }

  static std::string describe(const Violations& violations) {
    std::string text;
    for (const Violation& violation : violations) {
      text +=
          violation.path + ":" + std::to_string(violation.line) + ": " + violation.message + "\n";
    }
    return text;
  }

  std::filesystem::path root_;
};

std::string repeat(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST_F(TidyTest, CleanTreeHasNoViolations) {
  expect_clean();
}

TEST_F(TidyTest, IgnoredFoldersAreNotRead) {
  write("build/bad_new.cc", "// TODO\n");
  write("tests/npm/node_modules/package/index.js", "// TODO\n");
  expect_clean();
}

TEST_F(TidyTest, IncludeAgainstTheModuleTable) {
  write("src/tensor/bf16.h", "#pragma once\n#include \"model/config.h\"\n");
  expect_one("src/tensor/bf16.h", 2, "tensor may not include model");
}

TEST_F(TidyTest, UnknownModule) {
  write("src/helpers/CMakeLists.txt", "add_library(x x.cc)\n");
  write("src/helpers/x.cc", "\n");
  expect_one("src/helpers/x.cc", 0, "no module of the design");
}

TEST_F(TidyTest, LinkAgainstTheModuleTable) {
  write("src/model/CMakeLists.txt",
        "add_module(model SOURCES config.cc DEPS tensor plan LIBS fmt::fmt)\n");
  expect_one("src/model/CMakeLists.txt", 0, "model may not link plan");
}

TEST_F(TidyTest, IncludeThatTheLinksDoNotList) {
  write("src/model/CMakeLists.txt", "add_module(model\n  SOURCES config.cc\n  DEPS base)\n");
  expect_one("src/model/CMakeLists.txt", 0, "includes tensor but DEPS does not list it");
}

TEST_F(TidyTest, ExecutorsDoNotKnowModels) {
  write("src/cpu/CMakeLists.txt", "add_module(cpu SOURCES gather.cc DEPS program)\n");
  write("src/cpu/gather.cc", "// As in MiMo.\n");
  expect_one("src/cpu/gather.cc", 1, "executors do not know models");
}

TEST_F(TidyTest, EngineDoesNotKnowJson) {
  write("src/engine/CMakeLists.txt", "add_module(engine SOURCES engine.cc)\n");
  write("src/engine/engine.cc", "// HTTP and nlohmann are fine here.\n");
  expect_clean();
  write("src/engine/engine.cc", "#include <nlohmann/json.hpp>\n");
  expect_one("src/engine/engine.cc", 1, "the engine knows neither HTTP nor JSON");
}

TEST_F(TidyTest, OwnHeaderComesFirst) {
  write("src/model/config.cc", "#include \"tensor/bf16.h\"\n#include \"model/config.h\"\n");
  expect_one("src/model/config.cc", 1, "first include must be \"model/config.h\"");
}

TEST_F(TidyTest, Columns) {
  write("src/base/result.h", "//" + repeat("x", 98) + "\n//" + repeat("\xC2\xB5", 98) + "\n");
  expect_clean();
  write("src/base/result.h", "//" + repeat("x", 99) + "\n");
  expect_one("src/base/result.h", 1, "101 columns");
}

TEST_F(TidyTest, FileLength) {
  write("src/base/result.h", repeat("// x\n", 500));
  expect_clean();
  write("src/base/result.h", repeat("// x\n", 501));
  expect_one("src/base/result.h", 0, "501 lines; at most 500");
}

TEST_F(TidyTest, DocumentLength) {
  write("CONTRIBUTING.md", repeat("x\n", 151));
  expect_one("CONTRIBUTING.md", 0, "151 lines; at most 150");
}

TEST_F(TidyTest, FunctionLength) {
  write("src/base/result.h", "inline int f() {\n" + repeat("  g();\n", 68) + "}\n");
  expect_clean();
  write("src/base/result.h", "\ninline int f() {\n" + repeat("  g();\n", 69) + "}\n");
  expect_one("src/base/result.h", 2, "a function of 71 lines");
}

TEST_F(TidyTest, AllowListPermitsExactlyWhatIsNeeded) {
  write("src/base/result.h", repeat("// x\n", 510));
  write("tests/tidy/allow_list.txt", "file src/base/result.h 510\n");
  expect_clean();
  write("tests/tidy/allow_list.txt", "file src/base/result.h 509\n");
  expect_one("src/base/result.h", 0, "510 lines; at most 509");
}

TEST_F(TidyTest, AllowListMayOnlyShrink) {
  write("src/base/result.h", repeat("// x\n", 510));
  write("tests/tidy/allow_list.txt", "# reason\nfile src/base/result.h 520\n");
  expect_one("tests/tidy/allow_list.txt", 0, "needs 510 lines now: lower its limit");
  write("src/base/result.h", repeat("// x\n", 500));
  expect_one("tests/tidy/allow_list.txt", 0, "needs 500 lines now: remove its entry");
  write("tests/tidy/allow_list.txt", "function src/base/result.h 80\n");
  expect_one("tests/tidy/allow_list.txt", 0, "needs 0 lines now: remove its entry");
  write("tests/tidy/allow_list.txt", "file src/base/gone.h 520\n");
  expect_one("tests/tidy/allow_list.txt", 0, "src/base/gone.h needs no exception");
  write("tests/tidy/allow_list.txt", "src/base/result.h 520\n");
  expect_one("tests/tidy/allow_list.txt", 1, "expected 'file PATH LINES'");
}

TEST_F(TidyTest, AllowListForFunctions) {
  write("src/base/result.h", "inline int f() {\n" + repeat("  g();\n", 78) + "}\n");
  write("tests/tidy/allow_list.txt", "function src/base/result.h 80\n");
  expect_clean();
  write("tests/tidy/allow_list.txt", "function src/base/result.h 79\n");
  expect_one("src/base/result.h", 1, "a function of 80 lines; at most 79");
}

struct WordCase {
  std::string path;
  std::string line;
  std::string message;
};

class TidyWordTest : public TidyTest, public testing::WithParamInterface<WordCase> {};

TEST_P(TidyWordTest, Fires) {
  write("src/apps/CMakeLists.txt", "add_executable(x x.cc)\n");
  write("src/apps/x.cc", "int main() {}\n");
  write(GetParam().path, "\n" + GetParam().line + "\n");
  expect_one(GetParam().path, 2, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Words, TidyWordTest,
    testing::Values(WordCase{"src/base/result.h", "using namespace std;", "qualify names"},
                    WordCase{"src/base/result.h", "std::shared_ptr<int> p;", "unique_ptr"},
                    WordCase{"src/base/result.h", "int x = std::rand();", "philox"},
                    WordCase{"src/base/result.h", "int x = rand ();", "philox"},
                    WordCase{"src/base/result.h", "auto x = std::getenv(\"X\");", "apps/"},
                    WordCase{"src/base/result.h", "asm volatile(\"nop\");", "cuda/ptx"},
                    WordCase{"src/base/result.h", "__asm__(\"nop\");", "cuda/ptx"},
                    WordCase{"src/base/result.h", "// TODO: later", "open an issue"},
                    WordCase{"README.md", "FIXME", "open an issue"},
                    WordCase{"docs/numerics.md", "see /home/someone/notes", "machine's own paths"},
                    WordCase{"cmake/flags.cmake", "add_compile_options(-march=native)", "dispatch"},
                    WordCase{"README.md", "<<<<<<< HEAD", "merge conflict"}));

TEST_F(TidyTest, WordsInCommentsLiteralsAndLongerWordsAreNoCode) {
  write("src/base/result.h",
        "// rand() and asm and getenv, using namespace std\n"
        "/* shared_ptr\n   shared_ptr */\n"
        "const char* x = \"shared_ptr \\\" rand()\";\n"
        "const char* y = R\"re(shared_ptr\n rand( )re\";\n"
        "int n = 1'000; int operand(int); int z = operand(n); char c = '\\'';\n");
  expect_clean();
}

TEST_F(TidyTest, CodeAfterLiteralsAndCommentsIsStillCode) {
  write("src/base/result.h",
        "/* a */ const char* x = \"//\"; char c = '\"'; std::shared_ptr<int> p;\n");
  expect_one("src/base/result.h", 1, "shared_ptr");
}

TEST_F(TidyTest, GetenvBelongsToAppsAndTests) {
  write("src/apps/CMakeLists.txt", "add_executable(x x.cc)\n");
  write("src/apps/x.cc", "auto x = getenv(\"X\");\n");
  expect_clean();
}

TEST_F(TidyTest, VariantFileNames) {
  write("docs/mimo_v2.md", "\n");
  expect_clean();
  for (const char* path : {"docs/a_new.md", "docs/a_old.md", "docs/a_v2.md"}) {
    write(path, "\n");
    expect_one(path, 0, "variant by file name");
    std::filesystem::remove(root_ / path);
  }
}

TEST_F(TidyTest, UnlistedSource) {
  write("src/model/extra.cc", "\n");
  expect_one("src/model/extra.cc", 0, "no CMakeLists.txt lists it");
  write("tests/CMakeLists.txt", "x(${PROJECT_SOURCE_DIR}/src/model/extra.cc)\n");
  expect_clean();
}

TEST_F(TidyTest, SourcesListedThroughAVariable) {
  write("src/tensor/CMakeLists.txt", "foreach(name a b)\n  x(SOURCES ${name}_fuzz.cc)\n");
  write("src/tensor/a_fuzz.cc", "\n");
  expect_clean();
  write("src/tensor/a_extra.cc", "\n");
  expect_one("src/tensor/a_extra.cc", 0, "no CMakeLists.txt lists it");
}

TEST_F(TidyTest, HeaderThatNothingIncludes) {
  write("src/model/extra.h", "#include \"model/extra.h\"\n");
  expect_one("src/model/extra.h", 0, "nothing includes it");
}

TEST_F(TidyTest, LargeBinary) {
  const std::string binary = std::string(100'001, '\0');
  write("models/weights.bin", binary);
  write("tests/data/fixture.bin", binary);
  write("docs/small.bin", std::string(100'000, '\0'));
  expect_clean();
  write("docs/picture.bin", binary);
  expect_one("docs/picture.bin", 0, "a binary of 100001 bytes");
}

TEST_F(TidyTest, TreeSize) {
  write("models/weights.bin", "");
  std::filesystem::resize_file(root_ / "models/weights.bin", 60'000'001);
  expect_one(".", 0, "at most 60000000");
  write(".gitignore", "/models/weights.bin\n");
  expect_clean();
}

TEST(FindFunctions, MeasuresBodiesOnly) {
  const std::vector<std::string> code = {
      "namespace a {",                         // 1
      "struct alignas(64) S {",                // 2
      "  S(int x) : x_{x}, y_(1) {",           // 3
      "    if (x) {",                          // 4
      "    }",                                 // 5
      "  }",                                   // 6
      "  int x_ = 0;",                         // 7
      "};",                                    // 8
      "#define OPEN {",                        // 9
      "const int kTable[] = {1, 2};",          // 10
      "template <class T>",                    // 11
      "int f(T t) {",                          // 12
      "  auto g = [&](int i) { return i; };",  // 13
      "  return g(t);",                        // 14
      "}",                                     // 15
      "}",                                     // 16
  };
  const std::vector<FunctionExtent> functions = find_functions(code);
  ASSERT_EQ(functions.size(), 3U);
  EXPECT_EQ(functions[0].first_line, 3);  // the initialiser x_{x}
  EXPECT_EQ(functions[1].first_line, 3);
  EXPECT_EQ(functions[1].line_count, 4);
  EXPECT_EQ(functions[2].first_line, 12);
  EXPECT_EQ(functions[2].line_count, 4);
}

}  // namespace
}  // namespace ultraspeed::tidy
