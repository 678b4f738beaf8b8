#include "e2e/cli.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/drafter_generator.h"

namespace ultraspeed::test {

std::string binary_path() {
  return US_BINARY;
}

Finished run_cli(const std::vector<std::string>& arguments, const std::string& standard_input,
                 const std::vector<std::string>& environment) {
  ProcessInput input;
  input.arguments = {binary_path()};
  input.arguments.insert(input.arguments.end(), arguments.begin(), arguments.end());
  input.standard_input = standard_input;
  input.environment = environment;
  return run_process(input);
}

nlohmann::json run_cli_json(std::vector<std::string> arguments, const std::string& standard_input) {
  arguments.emplace_back("--json");
  const Finished finished = run_cli(arguments, standard_input);
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  nlohmann::json json = nlohmann::json::parse(finished.output, nullptr, false);
  EXPECT_TRUE(json.is_object()) << finished.output;
  return json;
}

void link_model_without_drafter(const std::string& directory) {
  namespace fs = std::filesystem;
  for (const auto& entry : fs::directory_iterator(kTinyMimo)) {
    const std::string name = entry.path().filename().string();
    if (name != "dflash") fs::create_symlink(fs::absolute(entry.path()), directory + "/" + name);
  }
}

void write_tiny_drafter(const std::string& directory) {
  DrafterOptions options = tiny_mimo_drafter();
  options.block_size = 6;
  const auto written = write_drafter(directory, options);
  EXPECT_TRUE(written) << written.error().message;
}

std::string write_text(const std::string& directory, const std::string& name,
                       const std::string& contents) {
  const std::string path = directory + "/" + name;
  std::ofstream(path, std::ios::binary) << contents;
  return path;
}

}  // namespace ultraspeed::test
