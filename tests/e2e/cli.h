// The built program, called from tests.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "e2e/process.h"

namespace ultraspeed::test {

inline const std::string kTinyMimo = US_SOURCE_DIR "/models/tiny-mimo";
inline const std::string kConfigs = US_SOURCE_DIR "/configs";

std::string binary_path();

Finished run_cli(const std::vector<std::string>& arguments, const std::string& standard_input = "",
                 const std::vector<std::string>& environment = {});

// Runs with --json added. A failure of the program or output that is not exactly one JSON object is
// a test failure.
nlohmann::json run_cli_json(std::vector<std::string> arguments,
                            const std::string& standard_input = "");

// Fills a folder with links to the bundled model's files, without its drafter.
void link_model_without_drafter(const std::string& directory);

// Writes a DFlash drafter of random weights that fits the bundled model, with blocks of 6.
void write_tiny_drafter(const std::string& directory);

// Writes a file into a folder and returns its path.
std::string write_text(const std::string& directory, const std::string& name,
                       const std::string& contents);

}  // namespace ultraspeed::test
