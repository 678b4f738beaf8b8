#include "hub/loopback_hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>

#include "base/check.h"
#include "hub/blob_hash.h"

namespace ultraspeed::hub {
namespace {

std::unique_ptr<net::HttpServer> listen(net::HttpHandler& handler) {
  auto server = net::HttpServer::listen({}, handler);
  US_CHECK(server.has_value(), "{}", server.error().message);
  (*server)->start();
  return std::move(*server);
}

net::HttpResponse refusal(unsigned status, const std::string& code) {
  net::HttpResponse response{status, {}, R"({"error":"refused"})"};
  if (!code.empty()) response.headers.push_back({"X-Error-Code", code});
  return response;
}

std::string path_of(const net::HttpRequest& request) {
  const std::string path = request.path();
  return path.substr(0, path.find('?'));
}

}  // namespace

std::string blob_of(const HubFile& file) {
  BlobHash hash(file.is_lfs ? HashKind::kSha256 : HashKind::kGitSha1, file.content.size());
  hash.update(std::as_bytes(std::span(file.content.data(), file.content.size())));
  return hash.hex();
}

LoopbackHub::LoopbackHub() : hub_(listen(*this)), cdn_(listen(cdn_handler_)) {}

LoopbackHub::~LoopbackHub() = default;

std::string LoopbackHub::url() const {
  return fmt::format("http://127.0.0.1:{}", hub_->port());
}

std::vector<HubRequest> LoopbackHub::requests() {
  const std::lock_guard lock(mutex_);
  return requests_;
}

size_t LoopbackHub::count(const std::string& part) {
  const std::vector<HubRequest> all = requests();
  return static_cast<size_t>(std::count_if(all.begin(), all.end(), [&](const HubRequest& one) {
    return one.target.find(part) != std::string::npos;
  }));
}

void LoopbackHub::note(const net::HttpRequest& request, bool is_at_cdn) {
  const std::lock_guard lock(mutex_);
  requests_.push_back({request.method, request.target, std::string(request.header("Authorization")),
                       std::string(request.header("Range")), is_at_cdn});
}

bool LoopbackHub::may_read(const net::HttpRequest& request) const {
  return token.empty() || request.header("Authorization") == "Bearer " + token;
}

void LoopbackHub::handle(net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
  note(request, false);
  if (num_failures > 0) {
    --num_failures;
    return writer->send({failure, {{"X-Error-Message", "out of order"}}, ""});
  }
  const std::string path = path_of(request);
  const std::string api = fmt::format("/api/models/{}/revision/", id);
  const std::string files_path = fmt::format("/{}/resolve/{}/", id, commit);
  const std::string moved_path = fmt::format("/{}/", relative);
  if (path.starts_with(api)) {
    if (!may_read(request) && gate.empty()) return writer->send(refusal(401, ""));
    return writer->send(list(path.substr(api.size())));
  }
  if (path.starts_with(files_path)) {
    const std::string file = path.substr(files_path.size());
    if (relative.empty()) return resolve(request, file, writer);
    return writer->send({307, {{"Location", moved_path + file}}, ""});
  }
  if (!relative.empty() && path.starts_with(moved_path)) {
    return resolve(request, path.substr(moved_path.size()), writer);
  }
  writer->send(refusal(404, "RepoNotFound"));
}

net::HttpResponse LoopbackHub::list(const std::string& revision) const {
  if (!listing.empty()) return {200, {}, listing};
  const auto found = revisions.find(revision);
  if (found == revisions.end() && revision != commit) return refusal(404, "RevisionNotFound");
  std::string siblings;
  for (const auto& [path, file] : files) {
    siblings += fmt::format(R"({}{{"rfilename":"{}")", siblings.empty() ? "" : ",", path);
    if (has_blobs) {
      siblings += fmt::format(R"(,"size":{},"blobId":"{}")", file.content.size(),
                              file.is_lfs ? std::string(40, '1') : blob_of(file));
      if (file.is_lfs) siblings += fmt::format(R"(,"lfs":{{"sha256":"{}"}})", blob_of(file));
    }
    siblings += "}";
  }
  return {200, {}, fmt::format(R"({{"sha":"{}","siblings":[{}]}})", commit, siblings)};
}

void LoopbackHub::resolve(const net::HttpRequest& request, const std::string& path,
                          const std::shared_ptr<net::ResponseWriter>& writer) {
  if (!may_read(request)) return writer->send(refusal(403, gate));
  const auto found = files.find(path);
  if (found == files.end()) return writer->send(refusal(404, "EntryNotFound"));
  const HubFile& file = found->second;
  if (!file.is_lfs) return send_file(request, file, writer);
  writer->send({302,
                {{"Location", fmt::format("http://127.0.0.1:{}/cdn/{}?Signature=a~b&Key=%2F",
                                          cdn_->port(), path)},
                 {"X-Linked-Size", fmt::to_string(file.content.size())},
                 {"X-Linked-ETag", fmt::format("\"{}\"", blob_of(file))}},
                "moved"});
}

void LoopbackHub::Cdn::handle(net::HttpRequest request,
                              std::shared_ptr<net::ResponseWriter> writer) {
  hub.note(request, true);
  constexpr std::string_view kFolder = "/cdn/";
  const auto found = hub.files.find(path_of(request).substr(kFolder.size()));
  if (found == hub.files.end()) return writer->send(refusal(403, ""));
  hub.send_file(request, found->second, writer);
}

void LoopbackHub::send_file(const net::HttpRequest& request, const HubFile& file,
                            const std::shared_ptr<net::ResponseWriter>& writer) {
  const std::string& whole = file.sent.empty() ? file.content : file.sent;
  net::HttpResponse response{200, {{"ETag", fmt::format("\"{}\"", blob_of(file))}}, whole};
  constexpr std::string_view kUnit = "bytes=";
  const std::string_view range = request.header("Range");
  if (has_ranges && range.starts_with(kUnit)) {
    size_t first = 0;
    std::from_chars(range.data() + kUnit.size(), range.data() + range.size(), first);
    if (first >= whole.size()) return writer->send({416, {}, ""});
    response.status = 206;
    response.headers.push_back(
        {"Content-Range", fmt::format("bytes {}-{}/{}", first, whole.size() - 1, whole.size())});
    response.body = whole.substr(first);
  }
  if (num_cuts == 0 || response.body.size() <= cut_after) return writer->send(std::move(response));
  --num_cuts;
  // A writer that goes without finish() closes the connection.
  writer->start_stream({response.status, response.headers, ""});
  const std::string part = response.body.substr(0, cut_after);
  if (!part.empty()) writer->write(part);
  writer->when_sent([kept = writer] {});
}

}  // namespace ultraspeed::hub
