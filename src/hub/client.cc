#include "hub/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <thread>
#include <utility>

#include "base/printable.h"
#include "base/progress.h"
#include "net/http_message.h"

namespace ultraspeed::hub {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxBodyBytes = 64 << 20;  // a listing of kMaxFiles files
constexpr int kMaxRedirections = 8;
constexpr int64_t kMaxDelayGrowth = 30;
constexpr milliseconds kMaxRetryAfter{300'000};

bool may_pass(unsigned status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501);
}

bool is_redirection(unsigned status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// What a hub's own answer has a reason for that users can act on.
bool may_explain(unsigned status) {
  return status == 401 || status == 403 || status == 404;
}

// "bytes 100-199/200": where a 206 begins.
std::optional<uint64_t> first_byte(std::string_view content_range) {
  constexpr std::string_view kUnit = "bytes ";
  if (!content_range.starts_with(kUnit)) return std::nullopt;
  uint64_t first = 0;
  const char* end = content_range.data() + content_range.size();
  const auto [rest, error] = std::from_chars(content_range.data() + kUnit.size(), end, first);
  return error == std::errc() && rest != end && *rest == '-' ? std::optional(first) : std::nullopt;
}

class Receiver : public net::ResponseListener {
 public:
  Receiver(uint64_t offset, BodySink* sink) : offset_(offset), sink_(sink) {}

  void on_head(unsigned status, const std::vector<net::Header>& headers) override {
    answer.status = status;
    answer.headers = headers;
    if (sink_ == nullptr || (status != 200 && status != 206)) return;
    is_for_sink_ = true;
    std::optional<uint64_t> first = 0;
    if (status == 206) first = first_byte(answer.header("Content-Range"));
    if (!first || (*first != 0 && *first != offset_)) {
      failed = Error{ErrorCode::kInvalidData, "the server sends another part than asked for"};
    } else if (const Status begun = sink_->begin(*first); !begun) {
      failed = begun.error();
    }
  }
  bool on_body(std::string_view bytes) override {
    if (failed) return false;
    if (!is_for_sink_) {
      answer.body += bytes.substr(0, kMaxBodyBytes - answer.body.size());
      return answer.body.size() < kMaxBodyBytes;
    }
    const Status written = sink_->write(bytes);
    if (!written) failed = written.error();
    return written.has_value();
  }
  void on_end() override {
    if (failed || !is_for_sink_ || sink_->is_complete()) return;
    lost = Error{ErrorCode::kIo, "the answer ended before the file did"};
  }
  void on_failed(net::RequestFailure how, const std::string& message) override {
    lost = Error{ErrorCode::kIo, message};
    was_connected = how == net::RequestFailure::kLost || how == net::RequestFailure::kTimeout;
  }

  Answer answer;
  std::optional<Error> failed;  // here: trying again does not help
  std::optional<Error> lost;    // on the way
  bool was_connected = true;    // to what speaks HTTP

 private:
  uint64_t offset_;
  BodySink* sink_;
  bool is_for_sink_ = false;
};

}  // namespace

std::string_view Answer::header(std::string_view name) const {
  const auto found = std::find_if(
      headers.begin(), headers.end(),
      [name](const net::Header& header) { return net::equals_ignoring_case(header.name, name); });
  return found == headers.end() ? std::string_view() : found->value;
}

struct Client::Outcome {
  Answer answer;
  std::optional<Error> error;
  bool may_pass = false;
  bool is_from_elsewhere = false;  // the answer is another server's than the hub's
};

Client::Outcome Client::exchange_at(const net::HttpLocation& place, const Request& request,
                                    BodySink* sink) {
  Outcome outcome;
  auto http = net::HttpClient::create(place.server, {options_.silence_timeout});
  if (!http) {
    outcome.error = std::move(http).error();
    outcome.may_pass = has_answered_;
    return outcome;
  }
  std::vector<net::Header> headers = {{"User-Agent", options_.user_agent},
                                      {"Accept-Encoding", "identity"}};
  if (!options_.token.empty() && net::is_same_origin(place.server, options_.endpoint)) {
    headers.push_back({"Authorization", "Bearer " + options_.token});
  }
  if (request.offset > 0) headers.push_back({"Range", fmt::format("bytes={}-", request.offset)});
  const auto receiver = std::make_shared<Receiver>(request.offset, sink);
  (*http)->send({std::string(request.method), place.target, std::move(headers), ""}, receiver);
  (*http)->run();
  has_answered_ = has_answered_ || receiver->answer.status != 0;
  outcome.error = receiver->failed ? receiver->failed : receiver->lost;
  if (receiver->lost && !receiver->failed) {
    outcome.error->message =
        fmt::format("{}:{}: {}", place.server.host, place.server.port, outcome.error->message);
    outcome.may_pass = has_answered_ || receiver->was_connected;
  }
  outcome.answer = std::move(receiver->answer);
  return outcome;
}

Client::Outcome Client::exchange(const Request& request, BodySink* sink) {
  net::HttpLocation place{options_.endpoint, options_.endpoint.path + request.target};
  place.server.path.clear();
  for (int i = 0; i < kMaxRedirections; ++i) {
    Outcome outcome = exchange_at(place, request, sink);
    if (outcome.error) return outcome;
    if (!is_redirection(outcome.answer.status)) {
      // A signed URL of the hub may be too old; the next try gets another.
      outcome.is_from_elsewhere = !net::is_same_origin(place.server, options_.endpoint);
      outcome.may_pass = may_pass(outcome.answer.status) ||
                         (outcome.is_from_elsewhere && outcome.answer.status == 403);
      return outcome;
    }
    auto next = net::follow(place, outcome.answer.header("Location"));
    if (next && place.server.has_tls && !next->server.has_tls) {
      next = make_error(ErrorCode::kInvalidData, "{} redirects to http, where anybody may answer",
                        place.server.host);
    }
    if (!next) {
      outcome.error = std::move(next).error();
      return outcome;
    }
    const bool is_out = !net::is_same_origin(next->server, options_.endpoint);
    if (is_out && !request.follows_out) return outcome;
    place = *std::move(next);
  }
  Outcome endless;
  endless.error = Error{ErrorCode::kInvalidData,
                        fmt::format("{} redirects in a circle", options_.endpoint.host)};
  return endless;
}

milliseconds Client::delay(uint32_t tries, const Outcome& outcome) const {
  const std::string_view wanted = outcome.answer.header("Retry-After");
  uint32_t seconds = 0;
  const char* end = wanted.data() + wanted.size();
  const auto [rest, error] = std::from_chars(wanted.data(), end, seconds);
  if (!wanted.empty() && error == std::errc() && rest == end) {
    return std::min<milliseconds>(std::chrono::seconds(seconds), kMaxRetryAfter);
  }
  const int64_t growth = std::min(int64_t{1} << std::min(tries - 1, 10U), kMaxDelayGrowth);
  return options_.retry_delay * growth;
}

Result<Answer> Client::send(const std::function<Request()>& make, BodySink* sink) {
  uint64_t best = sink == nullptr ? 0 : sink->position();
  for (uint32_t tries = 1;; ++tries) {
    const Request request = make();
    Outcome outcome = exchange(request, sink);
    if (!outcome.error && outcome.answer.status < 400) return std::move(outcome.answer);
    const Error error = failure(request, outcome);
    if (sink != nullptr && sink->position() > best) {
      best = sink->position();
      tries = 1;
    }
    if (!outcome.may_pass || tries >= options_.max_tries) {
      return tl::unexpected(error);
    }
    const milliseconds wait = delay(tries, outcome);
    options_.report(fmt::format("{}; trying again in {}", error.message,
                                format_duration(std::chrono::duration<double>(wait).count())));
    std::this_thread::sleep_for(wait);
  }
}

Error Client::failure(const Request& request, const Outcome& outcome) const {
  Error error;
  if (outcome.error) {
    error = *outcome.error;
  } else if (outcome.is_from_elsewhere || !may_explain(outcome.answer.status)) {
    const std::string_view said = outcome.answer.header("X-Error-Message");
    error = {ErrorCode::kIo, fmt::format("HTTP {} {}", outcome.answer.status,
                                         printable(said.empty() ? outcome.answer.body : said))};
  } else {
    error = refusal(outcome.answer);
  }
  error.message = fmt::format("{}: {}", request.subject, error.message);
  return error;
}

// 401 stands for private, gated and missing repositories alike; X-Error-Code tells more.
Error Client::refusal(const Answer& answer) const {
  const std::string_view code = answer.header("X-Error-Code");
  if (code == "RevisionNotFound") return {ErrorCode::kNotFound, "no such revision"};
  if (code == "EntryNotFound") return {ErrorCode::kNotFound, "no such file"};
  const std::string hub =
      fmt::format("{}://{}", options_.endpoint.has_tls ? "https" : "http", options_.endpoint.host);
  if (answer.status == 404) {
    return {ErrorCode::kNotFound, fmt::format("no such repository at {}", hub)};
  }
  const std::string_view token =
      options_.token.empty()
          ? "set HF_TOKEN to a token of an account that may read it"
          : "the token (HF_TOKEN, or the file of 'hf auth login') is of an account without access, "
            "or no longer valid";
  if (code == "GatedRepo") {
    return {ErrorCode::kInvalidArgument,
            fmt::format("a gated repository: accept its terms on its page at {} first; {}", hub,
                        token)};
  }
  return {ErrorCode::kInvalidArgument,
          fmt::format("HTTP {}: no such repository at {}, or not one for all; {}", answer.status,
                      hub, token)};
}

}  // namespace ultraspeed::hub
