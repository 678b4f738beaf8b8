// The folder in which Hugging Face's tools keep what they have downloaded, in their layout, so that
// they and this program find each other's models:
//
//   models--ORG--NAME/refs/REVISION              the commit that a branch or tag was at
//   models--ORG--NAME/blobs/HASH                 a file's bytes (hub/blob_hash.h)
//   models--ORG--NAME/blobs/HASH.incomplete      the beginning of one
//   models--ORG--NAME/snapshots/COMMIT/PATH      a link to ../../blobs/HASH
//   .locks/models--ORG--NAME/HASH.lock           held by who downloads it
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "hub/blob_hash.h"
#include "hub/reference.h"

namespace ultraspeed::hub {

// One model's part of a cache folder.
class ModelCache {
 public:
  ModelCache(std::string cache_folder, ModelReference reference);

  const std::string& cache_folder() const { return cache_folder_; }
  const ModelReference& reference() const { return reference_; }

  std::string folder() const;
  std::string blobs() const { return folder() + "/blobs"; }
  std::string snapshot(std::string_view commit) const;
  std::string lock_file(const BlobName& blob) const;

  // The snapshot of the reference. Errors: kNotFound, which names the folder looked in, the
  // revisions that it has, and the command that downloads.
  Result<std::string> find() const;

  // Whether the file of a snapshot is there and leads to this blob.
  bool has_link(std::string_view commit, std::string_view path, const BlobName& blob) const;

  // Makes or replaces the link, at once. REQUIRES: is_inside_path(path). Errors: kIo.
  Status link(std::string_view commit, std::string_view path, const BlobName& blob) const;

  // Notes which commit the revision is at. Errors: kIo.
  Status write_ref(std::string_view commit) const;

 private:
  std::string ref_file() const { return folder() + "/refs/" + reference_.revision; }
  std::string revisions() const;  // "main, v2": what is there

  std::string cache_folder_;
  ModelReference reference_;
};

// "ORG/NAME" of a path inside a snapshot, or "".
std::string model_of_snapshot(std::string_view path);

}  // namespace ultraspeed::hub
