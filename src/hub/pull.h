// Downloads a model of a Hugging Face hub into the local cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/output_folder.h"
#include "base/result.h"
#include "hub/cache.h"
#include "hub/client.h"
#include "hub/listing.h"

namespace ultraspeed::hub {

struct PullOptions {
  ModelReference model;
  std::string cache_folder;
  ClientOptions client;
  FileChoice files;
  bool is_forced = false;  // downloads what is there once more
  // Bytes done and to do of this call, and the file that is being fetched; may be empty.
  std::function<void(uint64_t, uint64_t, std::string_view)> progress;
  // Looks at the snapshot when all but its weights is there; an error ends the download. May be
  // empty.
  std::function<Status(const std::string& snapshot)> check;
  // Writes blobs; empty: into the cache's folder. Tests fill the disk with it.
  std::function<std::unique_ptr<OutputFolder>(const std::string& path)> open_blobs;
};

struct Pulled {
  std::string snapshot;  // the folder with the files
  std::string commit;
  uint32_t num_files = 0;
  uint64_t bytes = 0;          // of all of them
  uint64_t fetched_bytes = 0;  // by this call
};

// What is there already stays. A revision becomes the new commit when all of its files are there;
// until then, and after any error, the old one is what is found. Downloads of several processes at
// once share the work. Errors: kNotFound for no such repository or revision, kInvalidArgument
// (access), kUnsupported for a repository without safetensors, kIo (network, disk), kInvalidData
// for what a hub should not send.
Result<Pulled> pull(const PullOptions& options);

}  // namespace ultraspeed::hub
