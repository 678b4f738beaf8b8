#include "engine/weight_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/workers.h"
#include "program/program.h"

namespace ultraspeed::engine {
namespace {

// Of what the loader makes of a checkpoint's tensors. Whoever changes that counts it up: files of
// another version are not found. A test holds the bytes of the bundled model against it.
constexpr uint32_t kPackingVersion = 1;

// All that the bytes of a plan's weights follow from.
std::string text_of(const std::string& contents, const plan::Plan& plan) {
  std::string text =
      fmt::format("packing {} of {} ranks\n{}", kPackingVersion, plan.program.num_ranks, contents);
  for (size_t id = 0; id < plan.sources.size(); ++id) {
    const program::WeightDecl& decl = plan.program.weights[id];
    const model::WeightSource& source = plan.sources[id];
    text +=
        fmt::format("{} of layer {} of stack {}: {} x {} x {} {}, {} shards, stride {}\n",
                    model::tensor_role_name(source.role), source.layer,
                    static_cast<int>(source.stack), decl.count, decl.rows, decl.cols,
                    tensor::weight_format_name(decl.format), source.num_shards, decl.rank_stride);
  }
  return text;
}

}  // namespace

std::unique_ptr<WeightCache> WeightCache::open(const WeightCacheOptions& options,
                                               model::Fingerprint fingerprint,
                                               const plan::Plan& plan) {
  std::unique_ptr<WeightCache> cache(new WeightCache(options, std::move(fingerprint)));
  const auto contents = cache->contents();
  if (!contents) {
    cache->report(fmt::format("{}; loading without it", contents.error().message));
    return nullptr;
  }
  const std::string text = text_of(*contents, plan);
  for (uint32_t rank = 0; rank < plan.program.num_ranks; ++rank) cache->open_rank(text, plan, rank);
  cache->begin_writing();
  return cache;
}

Result<std::string> WeightCache::contents() {
  US_TRY(folder_.make_folder(""));
  return fingerprint_.text(folder_,
                           {.reads_all = options_.reads_all, .progress = options_.progress});
}

void WeightCache::open_rank(const std::string& text, const plan::Plan& plan, uint32_t rank) {
  const uint32_t num_ranks = plan.program.num_ranks;
  auto file = std::make_unique<RankFile>();
  file->name = fmt::format("{:016x}-{}of{}.weights", checksum(std::as_bytes(std::span(text))),
                           rank + 1, num_ranks);
  std::vector<uint64_t> sizes;
  for (const program::WeightDecl& decl : plan.program.weights) {
    file->first_block.push_back(sizes.size());
    if (!program::has_share(rank, decl.rank_stride)) continue;
    sizes.insert(sizes.end(), decl.count, decl.matrix_bytes());
  }
  file->plan = model::PackedIndex::plan(fmt::format("rank {}, {}", rank, text), sizes);
  auto opened = model::PackedFile::open(folder_.path_of(file->name));
  if (opened && opened->index().has_shape_of(file->plan)) {
    file->reader.emplace(*std::move(opened));
  } else if (opened || opened.error().code != ErrorCode::kNotFound) {
    report(fmt::format(
        "{}; packing it anew",
        opened ? fmt::format("{}: holds something else", opened->path()) : opened.error().message));
  }
  ranks_.push_back(std::move(file));
}

void WeightCache::begin_writing() {
  model::remove_abandoned(folder_);
  uint64_t bytes = 0;
  for (const auto& file : ranks_) bytes += file->reader ? 0 : file->plan.file_bytes;
  if (bytes == 0) return;
  if (const Status room = folder_.check_space(bytes); !room) {
    return report(fmt::format("{}; not packing", room.error().message));
  }
  for (const auto& file : ranks_) {
    if (file->reader) continue;
    auto writer = model::PackedFileWriter::create(folder_, file->name, std::move(file->plan));
    if (writer) {
      file->writer.emplace(*std::move(writer));
    } else {
      report(fmt::format("{}; not packing", writer.error().message));
    }
  }
}

bool WeightCache::read(uint32_t rank, program::WeightId weight, uint32_t index,
                       std::span<std::byte> out) {
  RankFile& file = *ranks_[rank];
  if (!file.reader || file.has_failed.load()) return false;
  const Status status = file.reader->read(file.first_block[weight] + index, out);
  if (status) return true;
  if (fail(&file, status.error(), "removed it, to be packed anew at the next start")) {
    static_cast<void>(folder_.remove(file.name));
  }
  return false;
}

void WeightCache::keep(uint32_t rank, program::WeightId weight, uint32_t index,
                       std::span<const std::byte> packed) {
  RankFile& file = *ranks_[rank];
  if (!file.writer || file.has_failed.load()) return;
  const Status status = file.writer->write(file.first_block[weight] + index, packed);
  if (!status) fail(&file, status.error(), "not packing");
}

bool WeightCache::fail(RankFile* file, const Error& error, std::string_view consequence) {
  if (file->has_failed.exchange(true)) return false;
  report(fmt::format("{}; {}", error.message, consequence));
  return true;
}

void WeightCache::finish() {
  const auto count = [&](const auto& what) {
    return std::ranges::count_if(ranks_, [&](const auto& file) { return what(*file); });
  };
  const auto is_used = [](const RankFile& file) { return file.reader && !file.has_failed; };
  const auto is_packing = [](const RankFile& file) { return file.writer && !file.has_failed; };
  const auto num_used = count(is_used), num_packing = count(is_packing);
  if (num_used > 0) {
    report(fmt::format("read {} of {} ranks from {}", num_used, ranks_.size(), folder_.path()));
  }
  if (num_packing == 0) return;
  if (const Status same = fingerprint_.check_unchanged(); !same) {
    for (const auto& file : ranks_) file->writer.reset();
    return report(fmt::format("{}; nothing was packed", same.error().message));
  }
  // The disk may be far behind.
  static_cast<void>(
      run_jobs(loading_threads(), ranks_.size(), [&](uint32_t, size_t rank) -> Status {
        RankFile& file = *ranks_[rank];
        if (!is_packing(file)) return {};
        if (const Status status = file.writer->finish(); !status) {
          fail(&file, status.error(), "not packing");
        }
        return {};
      }));
  report(fmt::format("packed {} of {} ranks into {}", count(is_packing), ranks_.size(),
                     folder_.path()));
}

void WeightCache::report(std::string_view sentence) {
  const std::lock_guard lock(report_mutex_);
  if (options_.report) options_.report(fmt::format("weight cache: {}", sentence));
}

}  // namespace ultraspeed::engine
