// What a revision of a repository holds, as GET /api/models/ID/revision/REVISION?blobs=true tells,
// and which of it an engine needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hub/blob_hash.h"

namespace ultraspeed::hub {

struct RepositoryFile {
  std::string path;              // is_inside_path()
  std::optional<uint64_t> size;  // hubs that know no blobs leave these to each file's headers
  std::optional<BlobName> blob;
};

struct Listing {
  std::string commit;  // is_commit()
  std::vector<RepositoryFile> files;
};

// `where` names it in messages. Errors: kInvalidData, also for a file that would lie outside.
Result<Listing> parse_listing(std::string_view where, std::string_view json);

// Shell patterns of paths, in which '*' stands for slashes, too.
struct FileChoice {
  std::vector<std::string> include;  // empty: what an engine needs
  std::vector<std::string> exclude;
};

// Configurations, tokenizer, templates and safetensors, of the top and of the drafter in dflash/;
// not weights in other formats (*.bin, *.gguf, consolidated*), other folders (original/, onnx/),
// papers and pictures.
bool is_needed(std::string_view path);
bool is_weights(std::string_view path);  // *.safetensors

// The files chosen, weights last, by name: what is wrong shows before the long part.
std::vector<RepositoryFile> choose_files(const Listing& listing, const FileChoice& choice);

// Whether the files chosen by default can be a model or a drafter. Errors: kUnsupported, with the
// formats that there are instead.
Status check_has_weights(const std::string& id, const Listing& listing,
                         const std::vector<RepositoryFile>& chosen);

}  // namespace ultraspeed::hub
