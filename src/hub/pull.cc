#include "hub/pull.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>
#include <vector>

#include "hub/blob_download.h"
#include "hub/file_lock.h"

namespace ultraspeed::hub {
namespace {

// One file to be in the snapshot.
struct Item {
  std::string path;
  BlobRequest request;
  bool is_missing = false;
};

class Pull {
 public:
  explicit Pull(const PullOptions& options)
      : options_(options),
        client_(options.client),
        cache_(options.cache_folder, options.model),
        blobs_(options.open_blobs ? options.open_blobs(cache_.blobs())
                                  : std::make_unique<OutputFolder>(cache_.blobs())) {}

  Result<Pulled> run() {
    US_ASSIGN(const Listing listing, list());
    const std::vector<RepositoryFile> files = choose_files(listing, options_.files);
    if (options_.files.include.empty()) {
      US_TRY(check_has_weights(options_.model.id, listing, files));
    }
    if (files.empty()) {
      return make_error(ErrorCode::kNotFound, "{}: none of its {} files is chosen",
                        options_.model.text(), listing.files.size());
    }
    pulled_.commit = listing.commit;
    pulled_.snapshot = cache_.snapshot(listing.commit);
    for (const RepositoryFile& file : files) {
      US_ASSIGN(items_.emplace_back(), describe(file));
    }
    US_TRY(prepare());
    bool is_checked = !options_.check;
    for (const Item& item : items_) {
      if (!is_checked && is_weights(item.path)) {
        US_TRY(options_.check(pulled_.snapshot));
        is_checked = true;
      }
      US_TRY(fetch(item));
    }
    US_TRY(cache_.write_ref(listing.commit));
    return std::move(pulled_);
  }

 private:
  std::string subject(std::string_view path) const {
    return fmt::format("{}: {}", options_.model.text(), path);
  }

  Result<Listing> list() {
    const auto make = [this] {
      const std::string revision =
          net::percent_encoded(options_.model.revision, net::Slashes::kEncode);
      return Request{.target = fmt::format("/api/models/{}/revision/{}?blobs=true",
                                           options_.model.id, revision),
                     .subject = options_.model.text()};
    };
    US_ASSIGN(const Answer answer, client_.send(make, nullptr));
    return parse_listing(options_.model.text(), answer.body);
  }

  Result<Item> describe(const RepositoryFile& file) {
    Item item{
        .path = file.path,
        .request = {.subject = subject(file.path),
                    .target = fmt::format("/{}/resolve/{}/{}", options_.model.id, pulled_.commit,
                                          net::percent_encoded(file.path, net::Slashes::kKeep)),
                    .blob = file.blob.value_or(BlobName()),
                    .size = file.size.value_or(0)}};
    if (!file.blob || !file.size) US_TRY(ask_headers(&item.request));
    item.is_missing = options_.is_forced || !has_blob(item.request);
    return item;
  }

  // From the answer's own headers what the listing leaves open.
  Status ask_headers(BlobRequest* request) {
    const auto make = [request] {
      return Request{.method = "HEAD",
                     .target = request->target,
                     .subject = request->subject,
                     .follows_out = false};
    };
    US_ASSIGN(const Answer answer, client_.send(make, nullptr));
    // What a redirection says without "Linked" is of its own body.
    const bool is_own = answer.header("X-Linked-ETag").empty() && answer.status == 200;
    const auto blob = parse_blob_name(answer.header(is_own ? "ETag" : "X-Linked-ETag"));
    const std::string_view size = answer.header(is_own ? "Content-Length" : "X-Linked-Size");
    const char* end = size.data() + size.size();
    const auto [rest, error] = std::from_chars(size.data(), end, request->size);
    if (!blob || size.empty() || error != std::errc() || rest != end) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: the hub does not say its size and hash, without which it cannot be "
                        "checked",
                        request->subject);
    }
    request->blob = *blob;
    return {};
  }

  // What can be known to fail before the long part.
  Status prepare() {
    pulled_.num_files = static_cast<uint32_t>(items_.size());
    for (const Item& item : items_) {
      pulled_.bytes += item.request.size;
      if (!item.is_missing) continue;
      total_ += item.request.size;
      if (!options_.is_forced) total_ -= incomplete_bytes(*blobs_, item.request);
    }
    if (total_ == 0) return {};
    US_TRY(blobs_->make_folder(""));
    return blobs_->check_space(total_);
  }

  Status fetch(const Item& item) {
    if (item.is_missing) US_TRY(fetch_locked(item));
    if (cache_.has_link(pulled_.commit, item.path, item.request.blob)) return {};
    return cache_.link(pulled_.commit, item.path, item.request.blob);
  }

  bool has_blob(const BlobRequest& request) const {
    std::error_code error;
    const uint64_t size = std::filesystem::file_size(blobs_->path_of(request.blob.hex), error);
    return !error && size == request.size;
  }

  Status fetch_locked(const Item& item) {
    const BlobRequest& request = item.request;
    bool is_shared = !options_.is_forced;  // what another process or an equal file brought will do
    US_TRY(blobs_->make_folder(""));
    US_ASSIGN(const FileLock lock, FileLock::take(cache_.lock_file(request.blob), [&] {
                is_shared = true;
                options_.client.report(fmt::format(
                    "{}: another process downloads it; waiting for that", request.subject));
              }));
    if (is_shared && has_blob(request)) return {};
    if (options_.is_forced) US_TRY(blobs_->remove(incomplete_name(request.blob)));
    const uint64_t begin = incomplete_bytes(*blobs_, request);
    const uint64_t done_before = pulled_.fetched_bytes;
    const auto on_position = [&](uint64_t position) {
      pulled_.fetched_bytes = done_before + std::max(position, begin) - begin;
      if (options_.progress) options_.progress(pulled_.fetched_bytes, total_, item.path);
    };
    return download_blob(client_, *blobs_, request, on_position);
  }

  const PullOptions& options_;
  Client client_;
  const ModelCache cache_;
  const std::unique_ptr<OutputFolder> blobs_;
  std::vector<Item> items_;
  uint64_t total_ = 0;  // bytes to be fetched
  Pulled pulled_;
};

}  // namespace

Result<Pulled> pull(const PullOptions& options) {
  return Pull(options).run();
}

}  // namespace ultraspeed::hub
