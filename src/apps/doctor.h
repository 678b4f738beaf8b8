// What `doctor` knows of DFlash drafters: the conventions that are easily mixed up, and what their
// acceptance says.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/speculation.h"
#include "model/config.h"
#include "model/drafter.h"

namespace ultraspeed::apps {

// Fewer tokens a cycle make the doctor look for other conventions: drafters that fit accept more
// than one draft a cycle on prompts of their kind.
inline constexpr double kHealthyAcceptedLength = 2.0;

// Another reading of a drafter, one convention changed.
struct Convention {
  std::string name;
  model::Drafter::Change change;
};

// The readings of this pair that publishers and tools have mixed up, and that differ from its own.
std::vector<Convention> other_conventions(const model::DrafterConfig& drafter,
                                          const model::ModelConfig& target);

// What a drafter's files say, a line each, with what is unusual about it.
std::string convention_table(const model::DrafterConfig& drafter, const model::ModelConfig& target);

// How a reading did on the prompts.
struct Trial {
  std::string name;
  engine::SpeculationStats stats;
};

struct Diagnosis {
  bool is_healthy = false;
  std::optional<std::string> better;  // the name of a reading that does much better
  std::string sentence;
};

// From the pair as it is and the other readings tried, if any.
Diagnosis diagnose(const Trial& as_is, const std::vector<Trial>& others);

}  // namespace ultraspeed::apps
