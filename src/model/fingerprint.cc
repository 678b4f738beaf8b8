#include "model/fingerprint.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>

#include "base/check.h"
#include "base/checksum.h"
#include "base/workers.h"
#include "model/packed_file.h"

namespace ultraspeed::model {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
constexpr uint64_t kSampleBytes = 4096;
constexpr uint64_t kSamples = 16;  // of a file, evenly spread, the first and the last bytes too

// Beside the shards; those that there are.
constexpr std::string_view kSideFiles[] = {"config.json", "model.safetensors.index.json",
                                           "mask_embedding.pt"};

Result<uint64_t> sample_sum(const MappedFile& file) {
  std::vector<std::byte> sample;
  uint64_t sum = 0;
  const uint64_t bytes = std::min(kSampleBytes, file.size_bytes());
  for (uint64_t i = 0; i < kSamples; ++i) {
    sample.resize(bytes);
    US_TRY(file.read((file.size_bytes() - bytes) * i / (kSamples - 1), sample));
    sum = checksum(sample, sum);
  }
  return sum;
}

std::span<const std::byte> bytes_of_text(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// The kept text, if it is there and whole.
std::optional<std::string> read_kept(const std::string& path, const std::string& stamps) {
  const auto kept = PackedFile::open(path);
  if (!kept || kept->index().text != stamps || kept->index().blocks.size() != 1) {
    return std::nullopt;
  }
  std::string text(kept->index().blocks[0].bytes, '\0');
  if (!kept->read(0, std::as_writable_bytes(std::span(text)))) return std::nullopt;
  return text;
}

// Where it cannot be kept, files are read again next time.
void keep(const OutputFolder& folder, const std::string& name, const std::string& stamps,
          const std::string& text) {
  const uint64_t size = text.size();
  auto writer = PackedFileWriter::create(folder, name, PackedIndex::plan(stamps, {&size, 1}));
  if (!writer || !writer->write(0, bytes_of_text(text))) return;
  static_cast<void>(writer->finish());
}

}  // namespace

Status Fingerprint::add(std::string_view label, const Checkpoint& checkpoint) {
  for (const SafetensorsFile& file : checkpoint.files()) {
    const std::string name = std::filesystem::path(file.path()).filename().string();
    entries_.push_back({fmt::format("{}/{}", label, name), &file.mapped()});
  }
  for (const std::string_view name : kSideFiles) {
    const std::string path = fmt::format("{}/{}", checkpoint.directory(), name);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    US_ASSIGN(MappedFile file, MappedFile::open(path));
    side_files_.push_back(std::make_unique<MappedFile>(std::move(file)));
    entries_.push_back({fmt::format("{}/{}", label, name), side_files_.back().get()});
  }
  return {};
}

Status Fingerprint::check_unchanged() const {
  for (const Entry& entry : entries_) {
    US_ASSIGN(const FileStamp now, FileStamp::of(entry.file->path()));
    if (now == entry.file->stamp()) continue;
    return make_error(ErrorCode::kIo, "{}: changed since it was opened", entry.file->path());
  }
  return {};
}

Result<std::string> Fingerprint::stamps() const {
  std::string text;
  for (const Entry& entry : entries_) {
    const FileStamp& stamp = entry.file->stamp();
    US_ASSIGN(const uint64_t sample, sample_sum(*entry.file));
    text += fmt::format("{} {} {} {} {} {} {:016x}\n", entry.name, stamp.device, stamp.inode,
                        stamp.size_bytes, stamp.modified_ns, stamp.changed_ns, sample);
  }
  return text;
}

bool Fingerprint::is_settled(double settled_s) const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  return std::ranges::all_of(entries_, [&](const Entry& entry) {
    return static_cast<double>(now_ns - entry.file->stamp().changed_ns) > settled_s * 1e9;
  });
}

Result<std::string> Fingerprint::text(const OutputFolder& folder,
                                      const FingerprintOptions& options) {
  US_TRY(check_unchanged());
  const bool is_settled_now = is_settled(options.settled_s);  // as of before the bytes are read
  US_ASSIGN(const std::string stamped, stamps());
  const std::string name = fmt::format("{:016x}.fingerprint", checksum(bytes_of_text(stamped)));
  if (!options.reads_all) {
    if (auto kept = read_kept(folder.path_of(name), stamped)) return *std::move(kept);
  }
  was_read_ = true;
  US_ASSIGN(std::string text, read_all(options));
  US_TRY(check_unchanged());
  if (is_settled_now) keep(folder, name, stamped, text);
  return text;
}

Result<std::string> Fingerprint::read_all(const FingerprintOptions& options) const {
  struct Piece {
    size_t entry;
    uint64_t offset, bytes;
  };
  std::vector<Piece> pieces;
  uint64_t bytes_total = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const uint64_t size = entries_[i].file->size_bytes();
    bytes_total += size;
    for (uint64_t at = 0; at < size; at += kPieceBytes) {
      pieces.push_back({i, at, std::min(kPieceBytes, size - at)});
    }
  }
  std::vector<uint64_t> sums(pieces.size());
  std::vector<std::vector<std::byte>> buffers(loading_threads());
  std::mutex mutex;
  uint64_t bytes_done = 0;
  const auto read_piece = [&](uint32_t worker, size_t i) -> Status {
    const Piece& piece = pieces[i];
    buffers[worker].resize(piece.bytes);
    const MappedFile& file = *entries_[piece.entry].file;
    US_TRY(file.read(piece.offset, buffers[worker]));
    file.forget(piece.offset, piece.bytes);
    sums[i] = checksum(buffers[worker]);
    const std::lock_guard lock(mutex);
    bytes_done += piece.bytes;
    if (options.progress) options.progress(bytes_done, bytes_total);
    return {};
  };
  US_TRY(run_jobs(loading_threads(), pieces.size(), read_piece));
  std::string text;
  size_t piece = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    uint64_t sum = 0;
    for (; piece < pieces.size() && pieces[piece].entry == i; ++piece) {
      sum = checksum(std::as_bytes(std::span(&sums[piece], 1)), sum);
    }
    text += fmt::format("{} {} {:016x}\n", entries_[i].name, entries_[i].file->size_bytes(), sum);
  }
  return text;
}

}  // namespace ultraspeed::model
