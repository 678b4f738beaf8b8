#include "hub/blob_download.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

namespace ultraspeed::hub {
namespace {

constexpr size_t kReadBytes = 1 << 20;

class Download : public BodySink {
 public:
  Download(const OutputFolder& blobs, const BlobRequest& request, OutputFile file,
           const std::function<void(uint64_t)>& on_position)
      : blobs_(blobs),
        request_(request),
        file_(std::move(file)),
        on_position_(on_position),
        hash_(request.blob.kind, request.size) {}

  // Hashes what is there, as far as it can be the file's beginning.
  Status resume(uint64_t num_bytes) {
    std::vector<std::byte> piece(kReadBytes);
    while (position_ < num_bytes) {
      const size_t wanted = std::min<uint64_t>(piece.size(), num_bytes - position_);
      const ssize_t count =
          pread(file_.file_descriptor(), piece.data(), wanted, static_cast<off_t>(position_));
      if (count <= 0) return begin(0);  // unreadable, or cut off meanwhile: all of it once more
      hash_.update({piece.data(), static_cast<size_t>(count)});
      position_ += static_cast<uint64_t>(count);
    }
    on_position_(position_);
    return cut();
  }

  Status begin(uint64_t offset) override {
    if (offset == position_) return {};
    hash_ = BlobHash(request_.blob.kind, request_.size);
    position_ = 0;
    on_position_(0);
    return cut();
  }

  Status write(std::string_view bytes) override {
    if (bytes.size() > request_.size - position_) {
      return make_error(ErrorCode::kInvalidData, "the server sends more than its {} bytes",
                        request_.size);
    }
    const auto data = std::as_bytes(std::span(bytes.data(), bytes.size()));
    US_TRY(blobs_.write_at(file_, position_, data));
    hash_.update(data);
    position_ += bytes.size();
    on_position_(position_);
    return {};
  }

  uint64_t position() const override { return position_; }
  bool is_complete() const override { return position_ == request_.size; }

  // REQUIRES: is_complete().
  Status finish() {
    const std::string hex = hash_.hex();
    const std::string partial = incomplete_name(request_.blob);
    if (hex != request_.blob.hex) {
      US_TRY(blobs_.remove(partial));
      return make_error(ErrorCode::kInvalidData,
                        "{}: what came has {} {}, expected {}; nothing of it is kept",
                        request_.subject, request_.blob.hash(), hex, request_.blob.hex);
    }
    US_TRY(blobs_.sync(file_));
    return blobs_.rename(partial, request_.blob.hex);
  }

 private:
  // Leaves nothing behind the position.
  Status cut() {
    if (ftruncate(file_.file_descriptor(), static_cast<off_t>(position_)) == 0) return {};
    return make_error(ErrorCode::kIo, "{}: cannot shorten: {}", file_.path(), std::strerror(errno));
  }

  const OutputFolder& blobs_;
  const BlobRequest& request_;
  OutputFile file_;
  const std::function<void(uint64_t)>& on_position_;
  BlobHash hash_;
  uint64_t position_ = 0;
};

Status download_from(uint64_t num_bytes, Client& client, const OutputFolder& blobs,
                     const BlobRequest& request, const std::function<void(uint64_t)>& on_position) {
  US_ASSIGN(OutputFile file, blobs.extend(incomplete_name(request.blob)));
  Download download(blobs, request, std::move(file), on_position);
  US_TRY(download.resume(num_bytes));
  const auto make = [&] {
    return Request{
        .target = request.target, .offset = download.position(), .subject = request.subject};
  };
  if (download.is_complete()) return download.finish();
  auto answer = client.send(make, &download);
  if (answer) return download.finish();
  Error error = std::move(answer).error();
  if (error.code == ErrorCode::kIo && download.position() > 0) {
    error.message += "; what has come is kept, and the same command goes on there";
  }
  return tl::unexpected(std::move(error));
}

}  // namespace

std::string incomplete_name(const BlobName& blob) {
  return blob.hex + ".incomplete";
}

uint64_t incomplete_bytes(const OutputFolder& blobs, const BlobRequest& request) {
  std::error_code error;
  const uint64_t bytes =
      std::filesystem::file_size(blobs.path_of(incomplete_name(request.blob)), error);
  return error || bytes > request.size ? 0 : bytes;
}

Status download_blob(Client& client, const OutputFolder& blobs, const BlobRequest& request,
                     const std::function<void(uint64_t)>& on_position) {
  const uint64_t num_bytes = incomplete_bytes(blobs, request);
  Status status = download_from(num_bytes, client, blobs, request, on_position);
  const bool is_other = !status && status.error().code == ErrorCode::kInvalidData;
  if (!is_other || num_bytes == 0) return status;
  return download_from(0, client, blobs, request, on_position);  // the beginning may be at fault
}

}  // namespace ultraspeed::hub
