#include "e2e/cli.h"

#include <gtest/gtest.h>

#include <fstream>

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

std::string write_text(const std::string& directory, const std::string& name,
                       const std::string& contents) {
  const std::string path = directory + "/" + name;
  std::ofstream(path, std::ios::binary) << contents;
  return path;
}

}  // namespace ultraspeed::test
