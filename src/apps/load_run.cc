#include "apps/load_run.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "apps/files.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using LoadClock = net::HttpClient::Clock;

constexpr std::chrono::milliseconds kProgressInterval{100};

// URL's path is the base as clients take it, with or without /v1.
std::string api_path(const net::HttpUrl& url, std::string_view route) {
  const bool has_version = url.path.ends_with("/v1");
  return fmt::format("{}{}/{}", url.path, has_version ? "" : "/v1", route);
}

std::vector<net::Header> request_headers(const LoadOptions& options) {
  std::vector<net::Header> headers = {{"Content-Type", "application/json"}};
  if (!options.api_key.empty()) headers.push_back({"Authorization", "Bearer " + options.api_key});
  return headers;
}

class Load {
 public:
  Load(const LoadOptions& options, const std::vector<ordered_json>& prompts,
       net::HttpClient& client)
      : options_(options), prompts_(prompts), client_(client) {
    run_.requests.resize(options.num_requests);  // readers point into it
  }

  LoadRun run() {
    begin_ = LoadClock::now();
    if (options_.rate > 0) {
      arrivals_ = arrival_times(options_);
      arrive();
    } else {
      const uint32_t limit =
          options_.concurrency == 0 ? options_.num_requests : options_.concurrency;
      num_waiting_ = options_.num_requests;
      for (uint32_t i = 0; i < std::min(limit, options_.num_requests); ++i) send();
    }
    show_progress();
    client_.run();
    return std::move(run_);
  }

 private:
  bool has_place() const {
    return options_.concurrency == 0 || num_running_ < options_.concurrency;
  }

  void arrive() {
    ++num_arrived_;
    ++num_waiting_;
    if (has_place()) send();
    if (num_arrived_ == options_.num_requests) return;
    const std::chrono::duration<double> next(arrivals_[num_arrived_]);
    client_.call_at(begin_ + std::chrono::duration_cast<LoadClock::duration>(next),
                    [this] { arrive(); });
  }

  void send() {
    --num_waiting_;
    ++num_running_;
    const uint32_t index = num_sent_++;
    RequestSample& sample = run_.requests[index];
    sample.prompt = index % prompts_.size();
    const std::string route =
        options_.endpoint == Endpoint::kChat ? "chat/completions" : "completions";
    const net::HttpRequest request{"POST", api_path(options_.url, route), request_headers(options_),
                                   request_body(options_, prompts_[sample.prompt], index)};
    sample.sent_s = seconds_since_begin();
    client_.send(request,
                 std::make_shared<StreamReader>(&sample, [this, &sample] { on_over(sample); }));
  }

  void on_over(const RequestSample& sample) {
    --num_running_;
    ++num_done_;
    num_events_ += sample.event_s.size();
    run_.duration_s = seconds_since_begin();
    if (num_waiting_ > 0 && has_place()) send();
  }

  void show_progress() {
    if (!options_.progress) return;
    options_.progress(num_done_, num_events_);
    if (num_done_ == options_.num_requests) return;
    client_.call_at(LoadClock::now() + kProgressInterval, [this] { show_progress(); });
  }

  double seconds_since_begin() const {
    return std::chrono::duration<double>(LoadClock::now() - begin_).count();
  }

  const LoadOptions& options_;
  const std::vector<ordered_json>& prompts_;
  net::HttpClient& client_;
  LoadClock::time_point begin_;
  std::vector<double> arrivals_;  // [num_requests], or none without a rate
  uint32_t num_arrived_ = 0, num_waiting_ = 0, num_sent_ = 0, num_running_ = 0, num_done_ = 0;
  uint64_t num_events_ = 0;
  LoadRun run_;
};

// A whole answer.
struct WholeResponse : net::ResponseListener {
  void on_head(unsigned response_status, const std::vector<net::Header>&) override {
    status = response_status;
  }
  bool on_body(std::string_view bytes) override {
    constexpr size_t kMaxBytes = 1 << 20;
    body += bytes.substr(0, kMaxBytes - std::min(body.size(), kMaxBytes));
    return true;
  }
  void on_end() override {}
  void on_failed(net::RequestFailure, const std::string& message) override { failure = message; }

  unsigned status = 0;
  std::string body;
  std::optional<std::string> failure;
};

}  // namespace

std::vector<double> arrival_times(const LoadOptions& options) {
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> gap(options.rate);
  std::vector<double> times(options.num_requests);
  for (size_t i = 1; i < times.size(); ++i) times[i] = times[i - 1] + gap(random);
  return times;
}

std::string request_body(const LoadOptions& options, const ordered_json& prompt, uint32_t index) {
  ordered_json body = {{"model", options.model}};
  body.update(prompt);
  body["max_tokens"] = options.max_tokens;
  body["temperature"] = options.temperature;
  body["seed"] = options.seed + index;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (options.ignore_eos) body["ignore_eos"] = true;
  return body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Result<ListedModel> first_model(const LoadOptions& options) {
  US_ASSIGN(const auto client, net::HttpClient::create(options.url, options.client));
  const auto response = std::make_shared<WholeResponse>();
  const std::string path = api_path(options.url, "models");
  client->send({"GET", path, request_headers(options), ""}, response);
  client->run();
  const std::string where = fmt::format("{}:{}{}", options.url.host, options.url.port, path);
  if (response->failure) {
    return make_error(ErrorCode::kIo, "{}: {}; is a server running there?", where,
                      *response->failure);
  }
  if (response->status != 200) {
    return make_error(ErrorCode::kIo, "{}: HTTP {}: {}", where, response->status,
                      short_text(response->body));
  }
  US_ASSIGN(const ordered_json list, parse_json(response->body, where));
  const ordered_json models = list.is_object() ? list.value("data", ordered_json()) : list;
  const bool has_model = models.is_array() && !models.empty() && models[0].is_object() &&
                         models[0].contains("id") && models[0]["id"].is_string();
  if (has_model) {
    const auto length = models[0].find("max_model_len");
    const bool has_length = length != models[0].end() && length->is_number_unsigned();
    return ListedModel{models[0]["id"].get<std::string>(),
                       has_length ? length->get<uint64_t>() : 0};
  }
  return make_error(ErrorCode::kInvalidData, "{}: it lists no model; name one with --model", where);
}

Result<LoadRun> run_load(const LoadOptions& options, const std::vector<ordered_json>& prompts) {
  US_CHECK(!prompts.empty() && options.num_requests > 0, "{} prompts, {} requests", prompts.size(),
           options.num_requests);
  US_ASSIGN(const auto client, net::HttpClient::create(options.url, options.client));
  return Load(options, prompts, *client).run();
}

}  // namespace ultraspeed::apps
