// Commands that a program of their own carries out: the trainers, which alone link LibTorch. Its
// libraries take half a second to load, which no other command should wait for.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ultraspeed::apps {

struct TrainerProgram {
  std::string name;                // beside this one: "train_drafter"
  std::vector<std::string> words;  // its first arguments
};

// Adds `name` to `parent`; all arguments behind it are the program's, --help included.
void add_trainer_command(CLI::App& parent, const std::string& name, const std::string& purpose,
                         const TrainerProgram& program, int* exit_code);

}  // namespace ultraspeed::apps
