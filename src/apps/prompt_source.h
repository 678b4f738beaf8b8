// A file of prompts as it is written, before any model sees it: of `bench decode`, `bench serve`
// and `train-drafter`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"

namespace ultraspeed::apps {

struct PromptSource {
  enum class Kind { kText, kMessages, kIds };

  std::string name;
  std::string family;  // what it is a prompt of; "": nobody said
  std::vector<std::string> stop;
  Kind kind = Kind::kText;
  nlohmann::ordered_json value;  // a string, an array of messages, or an array of ids
  nlohmann::ordered_json tools;  // of kMessages; null: none
};

// A JSON array, or JSON values line by line; each is a text, an array of messages, or an object
// with prompt_ids (ids), messages (and perhaps tools) or prompt (text), and perhaps name, family
// and stop (a text or several); a family without name gives the name. At least one.
// Errors: those of read_file(); kInvalidArgument, with file and prompt.
Result<std::vector<PromptSource>> read_prompt_sources(const std::string& path);

}  // namespace ultraspeed::apps
