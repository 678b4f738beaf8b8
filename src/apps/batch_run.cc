#include "apps/batch_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <utility>

#include "net/http_message.h"

namespace ultraspeed::apps {
namespace {

using std::chrono::milliseconds;
using BatchClock = net::HttpClient::Clock;

constexpr uint32_t kMaxAttempts = 10;  // of a request that finds the server full
constexpr milliseconds kBatchProgressInterval{100};
constexpr size_t kMaxAnswerBytes = 256 << 20;

// Whether a later attempt can get another answer, though the request is the same.
bool is_temporary(unsigned status) {
  return status == 401 || status == 403 || status == 408 || status == 429 || status >= 500;
}

// One attempt at a request.
class BatchListener final : public net::ResponseListener {
 public:
  struct Answer {
    unsigned status = 0;  // 0: there was none
    std::string request_id;
    uint32_t retry_after_s = 1;
    std::string body;
    std::string failure;
  };
  explicit BatchListener(std::function<void(Answer)> done) : done_(std::move(done)) {}

  void on_head(unsigned status, const std::vector<net::Header>& headers) override {
    answer_.status = status;
    for (const net::Header& header : headers) {
      const std::string& value = header.value;
      if (net::equals_ignoring_case(header.name, "X-Request-Id")) answer_.request_id = value;
      if (net::equals_ignoring_case(header.name, "Retry-After")) {
        std::from_chars(value.data(), value.data() + value.size(), answer_.retry_after_s);
      }
    }
  }
  bool on_body(std::string_view bytes) override {
    if (answer_.body.size() + bytes.size() <= kMaxAnswerBytes) {
      answer_.body += bytes;
      return true;
    }
    on_failed(net::RequestFailure::kMalformed, "the answer is too large");
    return false;
  }
  void on_end() override { done_(std::move(answer_)); }
  void on_failed(net::RequestFailure, const std::string& message) override {
    answer_.status = 0;
    answer_.failure = message;
    done_(std::move(answer_));
  }

 private:
  const std::function<void(Answer)> done_;
  Answer answer_;
};

class Batch {
 public:
  Batch(const BatchOptions& options, const std::vector<BatchRequest>& requests,
        net::HttpClient& client, BatchOutput& output)
      : options_(options), requests_(requests), client_(client), output_(output) {}

  Result<BatchFigures> run() {
    for (uint32_t i = 0; i < options_.concurrency; ++i) send_next();
    show_progress();
    client_.run();
    if (!status_) return tl::unexpected(status_.error());
    return figures_;
  }

 private:
  void send_next() {
    if (status_ && num_sent_ < requests_.size()) send(requests_[num_sent_++], 1);
  }

  void send(const BatchRequest& request, uint32_t attempt) {
    // The URL is the base as clients take it, with or without /v1.
    const bool has_version = options_.url.path.ends_with("/v1");
    net::HttpRequest http{"POST",
                          options_.url.path + request.path.substr(has_version ? 3 : 0),
                          {{"Content-Type", "application/json"}},
                          batch_body(request)};
    if (!options_.api_key.empty()) {
      http.headers.push_back({"Authorization", "Bearer " + options_.api_key});
    }
    client_.send(http, std::make_shared<BatchListener>(
                           [this, &request, attempt](BatchListener::Answer answer) {
                             take(request, attempt, answer);
                           }));
  }

  void take(const BatchRequest& request, uint32_t attempt, const BatchListener::Answer& answer) {
    const bool is_busy = answer.status == 429 || answer.status == 503;
    if (is_busy && attempt < kMaxAttempts && status_) {
      const std::chrono::seconds delay(std::clamp(answer.retry_after_s, 1U, 60U));
      return client_.call_at(BatchClock::now() + delay,
                             [this, &request, attempt] { send(request, attempt + 1); });
    }
    ++num_done_;
    if (answer.status == 0) {
      count_loss(answer.failure);
    } else if (is_temporary(answer.status)) {
      count_loss(fmt::format("HTTP {}", answer.status));
    } else if (status_) {
      const auto [line, has_succeeded] =
          batch_answer(request, answer.status, answer.request_id, answer.body);
      status_ = output_.add(line);
      ++(has_succeeded ? figures_.num_succeeded : figures_.num_refused);
    }
    send_next();
  }

  void count_loss(const std::string& why) {
    if (figures_.num_lost++ == 0) figures_.loss = why;
  }

  void show_progress() {
    if (!options_.progress) return;
    options_.progress(num_done_);
    if (num_done_ == num_sent_) return;  // all, or the output has failed
    client_.call_at(BatchClock::now() + kBatchProgressInterval, [this] { show_progress(); });
  }

  const BatchOptions& options_;
  const std::vector<BatchRequest>& requests_;
  net::HttpClient& client_;
  BatchOutput& output_;
  size_t num_sent_ = 0, num_done_ = 0;
  BatchFigures figures_;
  Status status_;
};

}  // namespace

Result<BatchFigures> run_batch(const BatchOptions& options,
                               const std::vector<BatchRequest>& requests, BatchOutput* output) {
  US_ASSIGN(const auto client, net::HttpClient::create(options.url, options.client));
  return Batch(options, requests, *client, *output).run();
}

}  // namespace ultraspeed::apps
