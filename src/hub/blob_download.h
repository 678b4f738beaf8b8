// One file of a repository into a folder of blobs: resumed where an earlier download ended, hashed
// as it comes, and given its name when it is whole and what it should be.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/output_folder.h"
#include "base/result.h"
#include "hub/blob_hash.h"
#include "hub/client.h"

namespace ultraspeed::hub {

struct BlobRequest {
  std::string subject;  // "ORG/NAME: config.json"
  std::string target;   // below the endpoint
  BlobName blob;
  uint64_t size = 0;
};

// HASH.incomplete
std::string incomplete_name(const BlobName& blob);

// Bytes of it that an earlier download left; 0: none, or more than it has.
uint64_t incomplete_bytes(const OutputFolder& blobs, const BlobRequest& request);

// `on_position` gets the bytes that are there, again and again. Errors: the client's; kIo for what
// cannot be written; kInvalidData for other bytes than the hash says, of which
// nothing is kept. After any other error the file goes on from where it is.
Status download_blob(Client& client, const OutputFolder& blobs, const BlobRequest& request,
                     const std::function<void(uint64_t)>& on_position);

}  // namespace ultraspeed::hub
