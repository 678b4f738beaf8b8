#include "apps/provenance.h"

#include <fstream>

#include "commit.inc"  // kCommit; cmake/commit.cmake writes it

namespace ultraspeed::apps {

std::string_view version() {
  return US_VERSION;
}

Provenance provenance() {
  Provenance provenance{.version = US_VERSION, .commit = kCommit, .command = {}};
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  for (std::string argument; std::getline(file, argument, '\0');) {
    provenance.command.push_back(argument);
  }
  return provenance;
}

Result<Provenance> read_provenance(const JsonObject& json) {
  Provenance provenance;
  US_ASSIGN(provenance.version, json.text("version"));
  US_ASSIGN(provenance.commit, json.text("commit"));
  US_ASSIGN(provenance.command, json.texts("command"));
  return provenance;
}

}  // namespace ultraspeed::apps
