// A batch of requests sent to a server, several at once on one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/batch_file.h"
#include "base/result.h"
#include "net/http_client.h"

namespace ultraspeed::apps {

struct BatchOptions {
  net::HttpUrl url;
  std::string api_key;  // empty: none is sent
  uint32_t concurrency = 8;
  net::ClientOptions client;
  std::function<void(size_t num_done)> progress = {};  // ten times a second; may be empty
};

struct BatchFigures {
  size_t num_succeeded = 0;  // with status 200
  size_t num_refused = 0;    // with another answer, which is in the output
  size_t num_lost = 0;       // without one, or with one for now; not in the output
  std::string loss;          // why the first of them was
};

// Writes answers as they come. A server that is full is asked again when it says. Answers that may
// be others the next time (to a wrong key, of a full or broken server) count as lost. Errors: of
// the output, and of HttpClient::create(); the answers before it are written.
Result<BatchFigures> run_batch(const BatchOptions& options,
                               const std::vector<BatchRequest>& requests, BatchOutput* output);

}  // namespace ultraspeed::apps
