// What makes a run resumable: TARGET/.quantize holds what the run was asked, the file that is being
// written, and a record of each finished file. The records are of files that were written, read
// again and renamed into the target; a run that is begun again with the same request takes them as
// they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/output_folder.h"
#include "base/result.h"
#include "quantize/tensor_record.h"

namespace ultraspeed::quantize {

class Journal {
 public:
  // Begins or continues a run in the folder, which is created. `request`: a JSON object of whatever
  // changes the result; what a run with another one left, and no finished file, is removed. Errors:
  // kInvalidArgument for a folder that holds anything else or the finished files of another run,
  // naming what differs; kIo, also while another process is at it.
  static Result<Journal> open(const OutputFolder& folder, const std::string& request);

  // Where a file is written before it is whole.
  std::string partial_name(const std::string& file) const;
  // Where a file stands that only the run needs: close() removes it.
  std::string own_name(const std::string& file) const;

  // The records of a finished file; nothing if it is not finished or no longer there.
  // Errors: kInvalidData for a damaged record.
  Result<std::optional<std::vector<TensorRecord>>> finished(const std::string& file,
                                                            size_t num_records) const;
  Status finish(const std::string& file, const std::vector<TensorRecord>& records) const;

  // The run is complete.
  Status close() const;
  // The run came to an error. Without finished work to go on from, the folder is as before open().
  void leave() const;

 private:
  Journal(const OutputFolder& folder, OutputFile lock, bool has_made_folder)
      : folder_(&folder), lock_(std::move(lock)), has_made_folder_(has_made_folder) {}

  const OutputFolder* folder_;
  OutputFile lock_;  // the folder of the journal, locked
  bool has_made_folder_;
};

}  // namespace ultraspeed::quantize
