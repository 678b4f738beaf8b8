#include "model/packed_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/checksum.h"

namespace ultraspeed::model {
namespace {

constexpr std::string_view kMagic = "USPACKED";
constexpr uint64_t kVersion = 1;
constexpr uint64_t kAlignment = 4096;
constexpr size_t kSummedWords = 4;  // magic, version, text, blocks
constexpr size_t kHeadBytes = (kSummedWords + 1) * sizeof(uint64_t);
constexpr uint64_t kMaxPackedTextBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxBlocks = uint64_t{1} << 24;
constexpr size_t kEntryBytes = 2 * sizeof(uint64_t);

uint64_t aligned(uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

uint64_t word_at(std::span<const std::byte> bytes, size_t at) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.subspan(at, sizeof(word)).data(), sizeof(word));
  return word;
}

void append_word(std::string* bytes, uint64_t word) {
  bytes->append(reinterpret_cast<const char*>(&word), sizeof(word));
}

uint64_t sum_of(std::span<const std::byte> head, std::span<const std::byte> text_and_table) {
  return checksum(text_and_table, checksum(head));
}

tl::unexpected<Error> damaged(std::string_view file, std::string_view what) {
  return make_error(ErrorCode::kInvalidData, "{}: {}", file, what);
}

// Bytes of text and table, from the first kHeadBytes.
Result<uint64_t> index_bytes(std::string_view file, std::span<const std::byte> bytes) {
  if (bytes.size() < kHeadBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return damaged(file, "not a file of packed weights");
  }
  if (word_at(bytes, 8) != kVersion) return damaged(file, "of another version of its format");
  const uint64_t text_bytes = word_at(bytes, 16), num_blocks = word_at(bytes, 24);
  if (text_bytes > kMaxPackedTextBytes || num_blocks > kMaxBlocks) {
    return damaged(file, "its index has an impossible size");
  }
  return text_bytes + num_blocks * kEntryBytes;
}

constexpr std::string_view kPartial = ".packing";

std::string partial_name(const std::string& name) {
  return name + std::string(kPartial);
}

// Whoever holds the lock of the file that has this name now may write it.
Result<OutputFile> create_locked(const std::string& path) {
  OutputFile file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666), path);
  if (file.file_descriptor() < 0) {
    return make_error(ErrorCode::kIo, "{}: cannot create: {}", path, std::strerror(errno));
  }
  const bool is_locked = flock(file.file_descriptor(), LOCK_EX | LOCK_NB) == 0;
  // Another process may have finished and renamed it since it was opened.
  const auto named = FileStamp::of(path);
  const auto opened = FileStamp::of(fmt::format("/proc/self/fd/{}", file.file_descriptor()));
  if (is_locked && named && opened && named->inode == opened->inode) return file;
  return make_error(ErrorCode::kIo, "{}: another process is writing it", path);
}

}  // namespace

PackedIndex PackedIndex::plan(std::string text, std::span<const uint64_t> sizes) {
  US_CHECK(text.size() <= kMaxPackedTextBytes && sizes.size() <= kMaxBlocks, "{} blocks",
           sizes.size());
  PackedIndex index;
  index.text = std::move(text);
  index.file_bytes = kHeadBytes + index.text.size() + sizes.size() * kEntryBytes;
  for (const uint64_t bytes : sizes) {
    index.blocks.push_back({aligned(index.file_bytes), bytes, 0});
    index.file_bytes = index.blocks.back().offset + bytes;
  }
  return index;
}

Result<PackedIndex> PackedIndex::parse(std::string_view file, std::span<const std::byte> bytes,
                                       uint64_t file_bytes) {
  US_ASSIGN(const uint64_t size, index_bytes(file, bytes));
  if (bytes.size() - kHeadBytes < size) return damaged(file, "ends within its index");
  const auto head = bytes.first(kSummedWords * sizeof(uint64_t));
  const auto rest = bytes.subspan(kHeadBytes, size);
  if (word_at(bytes, head.size()) != sum_of(head, rest)) {
    return damaged(file, "the checksum of its index is wrong");
  }
  const uint64_t text_bytes = word_at(bytes, 16);
  const auto table = rest.subspan(text_bytes);
  std::vector<uint64_t> sizes, sums;
  uint64_t left = file_bytes;
  for (size_t at = 0; at < table.size(); at += kEntryBytes) {
    sizes.push_back(word_at(table, at));
    sums.push_back(word_at(table, at + sizeof(uint64_t)));
    if (sizes.back() > left) return damaged(file, "shorter than its blocks: it was cut off");
    left -= sizes.back();
  }
  const auto text = rest.first(text_bytes);
  PackedIndex index = plan({reinterpret_cast<const char*>(text.data()), text.size()}, sizes);
  for (size_t i = 0; i < sums.size(); ++i) index.blocks[i].checksum = sums[i];
  if (index.file_bytes == file_bytes) return index;
  return make_error(ErrorCode::kInvalidData, "{}: has {} bytes; expected {}", file, file_bytes,
                    index.file_bytes);
}

bool PackedIndex::has_shape_of(const PackedIndex& other) const {
  return text == other.text &&
         std::ranges::equal(blocks, other.blocks, {}, &Block::bytes, &Block::bytes);
}

std::string PackedIndex::header() const {
  std::string head(kMagic);
  append_word(&head, kVersion);
  append_word(&head, text.size());
  append_word(&head, blocks.size());
  std::string rest = text;
  for (const Block& block : blocks) {
    append_word(&rest, block.bytes);
    append_word(&rest, block.checksum);
  }
  append_word(&head, sum_of(std::as_bytes(std::span(head)), std::as_bytes(std::span(rest))));
  return head + rest;
}

Result<PackedFile> PackedFile::open(const std::string& path) {
  US_ASSIGN(MappedFile file, MappedFile::open(path));
  std::vector<std::byte> bytes(std::min<uint64_t>(kHeadBytes, file.size_bytes()));
  US_TRY(file.read(0, bytes));
  US_ASSIGN(const uint64_t size, index_bytes(path, bytes));
  bytes.resize(std::min(kHeadBytes + size, file.size_bytes()));
  US_TRY(file.read(0, bytes));
  US_ASSIGN(PackedIndex index, PackedIndex::parse(path, bytes, file.size_bytes()));
  return PackedFile(std::move(file), std::move(index));
}

Status PackedFile::read(size_t block, std::span<std::byte> out) const {
  const PackedIndex::Block& from = index_.blocks[block];
  US_CHECK(out.size() == from.bytes, "{} bytes into {}", from.bytes, out.size());
  US_TRY(file_.read(from.offset, out));
  if (checksum(out) == from.checksum) return {};
  return make_error(ErrorCode::kInvalidData, "{}: the checksum of block {} of {} is wrong", path(),
                    block, index_.blocks.size());
}

Result<PackedFileWriter> PackedFileWriter::create(const OutputFolder& folder,
                                                  const std::string& name, PackedIndex plan) {
  US_ASSIGN(OutputFile file, create_locked(folder.path_of(partial_name(name))));
  // What a process that was killed has left is of no use.
  for (const uint64_t bytes : {uint64_t{0}, plan.file_bytes}) {
    if (ftruncate(file.file_descriptor(), static_cast<off_t>(bytes)) == 0) continue;
    const Error error{ErrorCode::kIo,
                      fmt::format("{}: cannot size: {}", file.path(), std::strerror(errno))};
    unlink(file.path().c_str());
    return tl::unexpected(error);
  }
  return PackedFileWriter(folder, name, std::move(file), std::move(plan));
}

PackedFileWriter::~PackedFileWriter() {
  if (!is_finished_ && file_.file_descriptor() >= 0) unlink(file_.path().c_str());
}

Status PackedFileWriter::write(size_t block, std::span<const std::byte> bytes) {
  PackedIndex::Block& to = index_.blocks[block];
  US_CHECK(bytes.size() == to.bytes, "{} bytes into {}", bytes.size(), to.bytes);
  to.checksum = checksum(bytes);
  return folder_->write_at(file_, to.offset, bytes);
}

void remove_abandoned(const OutputFolder& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path(), error)) {
    const std::string path = entry.path().string();
    if (!path.ends_with(kPartial)) continue;
    if (create_locked(path)) unlink(path.c_str());
  }
}

Status PackedFileWriter::finish() {
  const std::string header = index_.header();
  US_TRY(folder_->write_at(file_, 0, std::as_bytes(std::span(header))));
  US_TRY(folder_->sync(file_));
  US_TRY(folder_->rename(partial_name(name_), name_));
  is_finished_ = true;
  return {};
}

}  // namespace ultraspeed::model
