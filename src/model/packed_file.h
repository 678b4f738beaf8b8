// A file that this program keeps for itself: blocks of known sizes, each under a checksum, behind a
// text that says what they are. It is written under another name and renamed when it is whole, so
// that what stands under its name is complete or damaged afterwards; checksums tell.
//
// Little-endian: "USPACKED", the version, the bytes of the text and the number of blocks (u64); the
// checksum of these 32 bytes, the text and the table; the text; the table, size and checksum of
// each block. Blocks follow at multiples of 4096 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/output_folder.h"
#include "base/result.h"

namespace ultraspeed::model {

// What stands before the blocks.
struct PackedIndex {
  struct Block {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t checksum = 0;
  };
  std::string text;
  std::vector<Block> blocks;
  uint64_t file_bytes = 0;

  // Blocks of these sizes, without checksums.
  static PackedIndex plan(std::string text, std::span<const uint64_t> sizes);
  // `bytes`: the whole file, or its beginning with all of the index. Errors: kInvalidData, for a
  // file of another length, too.
  static Result<PackedIndex> parse(std::string_view file, std::span<const std::byte> bytes,
                                   uint64_t file_bytes);
  // Whether text and sizes are the same.
  bool has_shape_of(const PackedIndex& other) const;
  // The bytes that parse() reads.
  std::string header() const;
};

class PackedFile {
 public:
  // Errors: kNotFound, kInvalidData for a damaged index.
  static Result<PackedFile> open(const std::string& path);

  const PackedIndex& index() const { return index_; }
  const std::string& path() const { return file_.path(); }

  // A block whose checksum is right. Errors: kInvalidData, kIo. REQUIRES: out has its size.
  // Thread-safe.
  Status read(size_t block, std::span<std::byte> out) const;

 private:
  PackedFile(MappedFile file, PackedIndex index)
      : file_(std::move(file)), index_(std::move(index)) {}

  MappedFile file_;
  PackedIndex index_;
};

// Writes FOLDER/NAME. Unless finish() succeeds, nothing stays.
class PackedFileWriter {
 public:
  // Errors: kIo, also while another process writes the same file. REQUIRES: folder outlives it.
  static Result<PackedFileWriter> create(const OutputFolder& folder, const std::string& name,
                                         PackedIndex plan);
  PackedFileWriter(PackedFileWriter&&) = default;
  ~PackedFileWriter();

  // REQUIRES: each block once, with its planned size. Thread-safe.
  Status write(size_t block, std::span<const std::byte> bytes);

  // Index, disk, name. REQUIRES: all blocks were written.
  Status finish();

 private:
  PackedFileWriter(const OutputFolder& folder, std::string name, OutputFile file, PackedIndex index)
      : folder_(&folder),
        name_(std::move(name)),
        file_(std::move(file)),
        index_(std::move(index)) {}

  const OutputFolder* folder_;
  std::string name_;
  OutputFile file_;  // locked
  PackedIndex index_;
  bool is_finished_ = false;
};

// Removes what processes that were killed have left of files they wrote.
void remove_abandoned(const OutputFolder& folder);

}  // namespace ultraspeed::model
