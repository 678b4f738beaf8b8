// A hub of one repository on loopback ports, for tests: the listing, the files, a CDN on another
// port, and everything that goes wrong on the way.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/http_server.h"

namespace ultraspeed::hub {

struct HubFile {
  std::string content;
  bool is_lfs = false;    // its name is the SHA-256, and the CDN has it
  std::string sent = {};  // what is sent instead of the content; "": that
};

// Of one request that a test counts or looks at.
struct HubRequest {
  std::string method, target, authorization, range;
  bool is_at_cdn = false;
};

class LoopbackHub : public net::HttpHandler {
 public:
  LoopbackHub();
  ~LoopbackHub() override;

  std::string url() const;
  uint16_t port() const { return hub_->port(); }
  std::vector<HubRequest> requests();
  size_t count(const std::string& part);  // of requests whose target has it

  // The test's, while no request is under way.
  std::string id = "org/model";
  std::string commit = std::string(40, 'c');
  std::map<std::string, std::string> revisions = {{"main", ""}};  // "": `commit`
  std::map<std::string, HubFile> files;
  bool has_blobs = true;      // the listing says size and hash
  bool has_ranges = true;     // else a Range is ignored
  std::string token = {};     // not empty: who else sends another is refused
  std::string gate = {};      // X-Error-Code of refused files
  std::string relative = {};  // a folder that /resolve/ redirects to on the hub itself
  size_t cut_after = 0;       // bytes of a file's answer, then the connection is lost; 0: never
  size_t num_cuts = 0;        // how many answers are cut
  size_t num_failures = 0;    // requests that are answered with `failure`
  unsigned failure = 503;
  std::string listing = {};  // not empty: sent as it is

  void handle(net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) override;
  net::HttpResponse error_response(const net::HttpRequest&, unsigned status,
                                   std::string_view) override {
    return {status, {}, ""};
  }

 private:
  struct Cdn : net::HttpHandler {
    explicit Cdn(LoopbackHub& owner) : hub(owner) {}
    void handle(net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) override;
    net::HttpResponse error_response(const net::HttpRequest&, unsigned status,
                                     std::string_view) override {
      return {status, {}, ""};
    }
    LoopbackHub& hub;
  };

  void note(const net::HttpRequest& request, bool is_at_cdn);
  net::HttpResponse list(const std::string& revision) const;
  void resolve(const net::HttpRequest& request, const std::string& path,
               const std::shared_ptr<net::ResponseWriter>& writer);
  void send_file(const net::HttpRequest& request, const HubFile& file,
                 const std::shared_ptr<net::ResponseWriter>& writer);
  bool may_read(const net::HttpRequest& request) const;

  Cdn cdn_handler_{*this};
  std::unique_ptr<net::HttpServer> hub_, cdn_;
  std::mutex mutex_;
  std::vector<HubRequest> requests_;
};

// The name of a file's blob.
std::string blob_of(const HubFile& file);

}  // namespace ultraspeed::hub
