// What ends a capture, for folders that tests fill.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "train/feature_shard.h"

namespace ultraspeed::train {

// Lists the shards that are there.
inline void write_capture(const std::string& directory) {
  std::string list;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".features") continue;
    const auto shard = FeatureShard::open(entry.path().string()).value();
    list += fmt::format("{}\"{}\": \"{}\"", list.empty() ? "" : ", ",
                        entry.path().filename().string(), shard_sum_text(shard.checksum()));
  }
  std::ofstream(fmt::format("{}/{}", directory, kCaptureFile))
      << R"({"command": "a \"text\"", "layers": [0, {}, -1.5e3], ")" << kShardsKey << R"(": {)"
      << list << "}}";
}

}  // namespace ultraspeed::train
