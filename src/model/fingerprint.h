// What the files of a checkpoint hold, said by a text: their names, sizes and checksums. Whatever
// is kept of a checkpoint on disk is kept under this text, so that no other checkpoint is taken for
// it.
//
// To read all of a large checkpoint takes as long as to load it. So the text is kept, too, under
// what the file system says of each file (FileStamp) and a sample of its bytes; while these are the
// same, the files are not read. docs/loading.md argues why that is enough.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/output_folder.h"
#include "base/result.h"
#include "model/checkpoint.h"

namespace ultraspeed::model {

struct FingerprintOptions {
  bool reads_all = false;  // whatever is kept
  // A text is not kept while a file changed less than so long ago: another change at the same tick
  // of the file system's clock would not show.
  double settled_s = 2;
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress = {};
};

class Fingerprint {
 public:
  // The files of a checkpoint that weights depend on: shards, index, config.json, mask embedding.
  // `label` stands before their names. REQUIRES: the checkpoint outlives it.
  Status add(std::string_view label, const Checkpoint& checkpoint);

  // The text. Reads all files on several threads unless it is kept in the folder. Errors: kIo, also
  // for files that have changed since they were opened.
  Result<std::string> text(const OutputFolder& folder, const FingerprintOptions& options);
  bool was_read() const { return was_read_; }  // by text(), because nothing was kept

  // Errors: kIo for a file that is not, or may not be, what it was when it was opened.
  Status check_unchanged() const;

 private:
  struct Entry {
    std::string name;
    const MappedFile* file;
  };

  Result<std::string> stamps() const;
  Result<std::string> read_all(const FingerprintOptions& options) const;
  bool is_settled(double settled_s) const;

  std::vector<std::unique_ptr<MappedFile>> side_files_;
  std::vector<Entry> entries_;
  bool was_read_ = false;
};

}  // namespace ultraspeed::model
