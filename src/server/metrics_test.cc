// GET /metrics: a reader of Prometheus' text format takes it, and requests move what they should.
#include "server/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <sstream>
#include <thread>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

using std::chrono::milliseconds;

// Values by series, "name{labels}" without the model's label. Checks the format on the way.
class Exposition {
 public:
  explicit Exposition(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) read_line(line);
    EXPECT_TRUE(text.ends_with('\n'));
  }

  // nullopt: there is no such series.
  std::optional<double> find(const std::string& series) const {
    const auto found = values_.find("ultraspeed:" + series);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }
  double operator[](const std::string& series) const {
    const auto value = find(series);
    EXPECT_TRUE(value) << series;
    return value.value_or(-1);
  }
  const std::map<std::string, std::string>& types() const { return types_; }

 private:
  void read_line(const std::string& line) {
    static const std::regex kComment("# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)");
    static const std::regex kSample(
        R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)\{model_name="((?:[^"\\]|\\.)*)"(?:,(.*))?\} ([^ ]+))re");
    std::smatch match;
    if (std::regex_match(line, match, kComment)) {
      const bool is_new = match[1] == "HELP" || types_.emplace(match[2], match[3]).second;
      EXPECT_TRUE(is_new) << line;
      family_ = match[2];
      return;
    }
    ASSERT_TRUE(std::regex_match(line, match, kSample)) << line;
    const std::string name = match[1];
    EXPECT_TRUE(types_.contains(family_) && name.starts_with(family_)) << line;
    const std::string suffix = name.substr(family_.size());
    const bool is_histogram = types_[family_] == "histogram";
    EXPECT_EQ(is_histogram, suffix == "_bucket" || suffix == "_sum" || suffix == "_count") << line;
    EXPECT_EQ(types_[family_] == "counter", name.ends_with("_total")) << line;
    const std::string number = match[4];
    double value = 0;
    EXPECT_EQ(std::from_chars(number.data(), number.data() + number.size(), value).ec, std::errc())
        << line;
    const std::string labels = match[3];
    EXPECT_TRUE(values_.emplace(labels.empty() ? name : name + "{" + labels + "}", value).second)
        << "twice: " << line;
    if (suffix == "_bucket") {
      EXPECT_GE(value, last_bucket_) << line;
      last_bucket_ = value;
    }
    if (suffix == "_count") {
      EXPECT_EQ(value, last_bucket_) << line;
      EXPECT_EQ(value, values_.at(family_ + "_bucket{le=\"+Inf\"}"));
      last_bucket_ = 0;
    }
  }

  std::map<std::string, std::string> types_;
  std::map<std::string, double> values_;
  std::string family_;
  double last_bucket_ = 0;
};

TEST(PrometheusTextTest, WritesFamilies) {
  PrometheusText text("p:", {"model_name", "a\"b\\c\nd"});
  text.gauge("g", "Help.", 0.25);
  text.counter("c_total", "Help.", 12345678901);
  constexpr double kBounds[] = {0.0001, 1};
  Histogram histogram(kBounds);
  histogram.observe(0.0001);
  histogram.observe(0.5, 2);
  histogram.observe(7);
  text.histogram("h", "Help.", histogram);
  const std::string label = R"(model_name="a\"b\\c\nd")";
  EXPECT_EQ(text.take(),
            "# HELP p:g Help.\n# TYPE p:g gauge\np:g{" + label +
                "} 0.25\n# HELP p:c_total Help.\n# TYPE p:c_total counter\np:c_total{" + label +
                "} 12345678901\n# HELP p:h Help.\n# TYPE p:h histogram\n" + "p:h_bucket{" + label +
                ",le=\"0.0001\"} 1\np:h_bucket{" + label + ",le=\"1\"} 3\np:h_bucket{" + label +
                ",le=\"+Inf\"} 4\np:h_sum{" + label + "} 8.0001\np:h_count{" + label + "} 4\n");
}

// 3 tokens at 10 ms, 4 at 12 ms and 1 at 13 ms, of a request that waited for 5 ms.
TEST(MetricsTest, TimesOfARequest) {
  Metrics metrics;
  const Metrics::TimePoint arrived{milliseconds(1'000'000)};
  GenerationLog log;
  log.prompt_tokens = 30;
  log.cached_tokens = 20;
  log.started = arrived + milliseconds(5);
  for (const auto& [at_ms, num_tokens] : {std::pair{10, 3}, {12, 4}, {13, 1}}) {
    const auto now = arrived + milliseconds(at_ms);
    metrics.count_tokens(log, arrived, now, static_cast<size_t>(num_tokens), log.last_token);
    if (log.completion_tokens == 0) log.first_token = now;
    log.num_choices = 1;
    log.last_token = now;
    log.completion_tokens += static_cast<size_t>(num_tokens);
  }
  log.outcome = Outcome::kLength;
  metrics.count_end(log, arrived);
  metrics.count_cycle({.num_drafts = 3, .num_accepted = 3, .num_tokens = 4});
  metrics.count_cycle({.num_drafts = 3, .num_accepted = 1, .num_tokens = 2});
  metrics.count_cycle({.num_drafts = 0, .num_accepted = 0, .num_tokens = 1});
  metrics.count_response(0);
  const Exposition read(metrics.text("m", {2, 3, {100, 25, 64, 10, 7}}));
  const auto expect_sum = [&read](const std::string& name, double count, double sum_ms) {
    EXPECT_EQ(read[name + "_count"], count) << name;
    EXPECT_NEAR(read[name + "_sum"], sum_ms / 1000, 1e-9) << name;
  };
  expect_sum("time_to_first_token_seconds", 1, 10);
  expect_sum("inter_event_latency_seconds", 2, 3);
  expect_sum("inter_token_latency_seconds", 5, 3);
  EXPECT_EQ(read["inter_token_latency_seconds_bucket{le=\"0.0005\"}"], 4);
  EXPECT_EQ(read["inter_token_latency_seconds_bucket{le=\"0.0003\"}"], 0);
  expect_sum("request_time_per_output_token_seconds", 1, 3.0 / 7);
  expect_sum("e2e_request_latency_seconds", 1, 13);
  expect_sum("request_queue_time_seconds", 1, 5);
  expect_sum("request_prefill_time_seconds", 1, 5);
  expect_sum("request_decode_time_seconds", 1, 3);
  expect_sum("request_inference_time_seconds", 1, 8);
  EXPECT_EQ(read["request_prompt_tokens_sum"], 30);
  EXPECT_EQ(read["request_generation_tokens_sum"], 8);
  EXPECT_EQ(read["num_preemptions_total"], 7);
  EXPECT_EQ(read["prefix_cache_queries_total"], 30);
  EXPECT_EQ(read["prefix_cache_hits_total"], 20);
  EXPECT_EQ(read["spec_decode_num_drafts_total"], 2);
  EXPECT_EQ(read["spec_decode_num_draft_tokens_total"], 6);
  EXPECT_EQ(read["spec_decode_num_accepted_tokens_total"], 4);
  EXPECT_EQ(read["spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"}"], 2);
  EXPECT_EQ(read["spec_decode_num_accepted_tokens_per_pos_total{position=\"2\"}"], 1);
  EXPECT_FALSE(read.find("spec_decode_num_accepted_tokens_per_pos_total{position=\"3\"}"));
  EXPECT_EQ(read["num_requests_running"], 2);
  EXPECT_EQ(read["num_requests_waiting"], 3);
  EXPECT_EQ(read["kv_cache_usage_perc"], 0.25);
  EXPECT_EQ(read["cache_config_info{block_size=\"64\",num_gpu_blocks=\"100\"}"], 1);
  EXPECT_EQ(read["http_responses_total{status=\"499\"}"], 1);
}

TEST(MetricsTest, KvEventsAreCountedWhereThereAreAny) {
  EngineLoad load;
  EXPECT_FALSE(Exposition(Metrics().text("m", load)).find("kv_event_batches_total"));
  load.kv_events = KvEventCounts{.num_published = 5, .num_dropped = 2};
  const Exposition read(Metrics().text("m", load));
  EXPECT_EQ(read["kv_event_batches_total"], 5);
  EXPECT_EQ(read["kv_event_batches_dropped_total"], 2);
}

TEST(MetricsTest, DashboardAndAlertsNameMetricsThatAre) {
  const Exposition read(Metrics().text("m", {}));
  for (const char* path :
       {"/deploy/grafana/ultraspeed.json", "/deploy/prometheus/ultraspeed.rules.yml"}) {
    std::ifstream file(std::string(US_SOURCE_DIR) + path);
    std::stringstream text;
    text << file.rdbuf();
    const std::string contents = text.str();
    const std::regex name("ultraspeed:[a-z0-9_]+");
    std::sregex_iterator found(contents.begin(), contents.end(), name);
    EXPECT_NE(found, std::sregex_iterator()) << path;
    for (; found != std::sregex_iterator(); ++found) {
      const std::string family =
          std::regex_replace(found->str(), std::regex("_(bucket|sum|count)$"), "");
      EXPECT_TRUE(read.types().contains(family)) << path << ": " << found->str();
    }
  }
}

class MetricsRouteTest : public ServerTest {
 protected:
  Exposition scrape() const {
    const net::TestResponse response = get("/metrics");
    EXPECT_EQ(response.status, 200U);
    EXPECT_EQ(response.headers.at("content-type"), kPrometheusContentType);
    return Exposition(response.body);
  }
  // An exchange is counted when its last owner lets go, shortly behind the answer.
  Exposition scrape_until(const std::string& series, double value) const {
    for (int i = 0; i < 500; ++i) {
      Exposition read = scrape();
      if (read.find(series) == value) return read;
      std::this_thread::sleep_for(milliseconds(10));
    }
    ADD_FAILURE() << series << " did not become " << value;
    return scrape();
  }
};

TEST_F(MetricsRouteTest, RequestsMoveTheCounters) {
  engine.tokens_per_step = 2;
  engine.step_delay_us = 500;
  start();
  const Exposition before = scrape();
  EXPECT_EQ(before["request_success_total{finished_reason=\"stop\"}"], 0);
  complete();
  chat(R"("stream":true)");
  complete(R"("max_tokens":2)");
  post("/v1/completions", "{");
  const Exposition after = scrape_until("http_responses_total{status=\"400\"}", 1);
  const auto reply = static_cast<double>(engine.reply.size());
  EXPECT_EQ(after["request_success_total{finished_reason=\"stop\"}"], 2);
  EXPECT_EQ(after["request_success_total{finished_reason=\"length\"}"], 1);
  EXPECT_EQ(after["request_success_total{finished_reason=\"error\"}"], 0);
  EXPECT_EQ(after["generation_tokens_total"], 2 * reply + 2);
  EXPECT_GT(after["prompt_tokens_total"], 0);
  EXPECT_EQ(after["time_to_first_token_seconds_count"], 3);
  EXPECT_EQ(after["e2e_request_latency_seconds_count"], 3);
  EXPECT_EQ(after["inter_token_latency_seconds_count"], 2 * (reply - 2));
  EXPECT_EQ(after["inter_event_latency_seconds_count"], 2 * (std::ceil(reply / 2) - 1));
  EXPECT_GT(after["time_to_first_token_seconds_sum"], 0.0005);
  EXPECT_LT(after["time_to_first_token_seconds_bucket{le=\"0.0001\"}"], 1);
  EXPECT_EQ(after["spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"}"],
            after["spec_decode_num_drafts_total"]);
  EXPECT_GE(after["http_responses_total{status=\"200\"}"], 4);
}

TEST_F(MetricsRouteTest, ShowsWhoRunsAndWhoWaits) {
  engine.max_sessions = 1;
  engine.is_endless = true;
  engine.context = 1'000'000;
  engine.step_delay_us = 100;
  start();
  {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(std::make_unique<Client>(server->port()));
      clients.back()->post("/v1/completions", completion_body(R"("stream":true)"));
      clients.back()->read_head();
    }
    EXPECT_EQ(scrape_until("num_requests_waiting", 2)["num_requests_running"], 1);
  }
  const Exposition after = scrape_until("request_success_total{finished_reason=\"abort\"}", 3);
  EXPECT_EQ(after["e2e_request_latency_seconds_count"], 0);
  scrape_until("num_requests_running", 0);
  EXPECT_EQ(scrape()["num_requests_waiting"], 0);
}

// A client that wants its prompts' logprobs alone, twice.
TEST_F(MetricsRouteTest, CountsPromptsThatWantNoTokens) {
  start();
  for (int i = 0; i < 2; ++i) {
    const net::TestResponse response = post(
        "/v1/completions",
        R"({"model":"tiny","prompt":[[5,6,7],[8,9]],"echo":true,"max_tokens":0,"logprobs":1})");
    ASSERT_EQ(response.status, 200U) << response.body;
  }
  const Exposition after = scrape_until("time_to_first_token_seconds_count", 2);
  EXPECT_EQ(after["prompt_tokens_total"], 10);
  EXPECT_EQ(after["generation_tokens_total"], 0);
}

TEST_F(MetricsRouteTest, ErrorsAreThoseOfTheEngine) {
  engine.is_paused = true;
  engine.max_sessions = 1;
  options.max_queue = 0;
  start();
  Client running(server->port());
  running.post("/v1/completions", completion_body(R"("stream":true)"));
  running.read_head();
  ASSERT_EQ(complete().status, 429U);
  const Exposition refused = scrape_until("http_responses_total{status=\"429\"}", 1);
  EXPECT_EQ(refused["request_success_total{finished_reason=\"error\"}"], 0);
  engine.fails_steps = true;
  scrape_until("request_success_total{finished_reason=\"error\"}", 1);
}

TEST_F(MetricsRouteTest, NeedsTheKeyAndTellsNothingOfIt) {
  options.access.api_keys = {"secret"};
  start();
  EXPECT_EQ(get("/metrics").status, 401U);
  const std::string key = "Authorization: Bearer secret\r\n";
  post("/v1/completions", R"({"model":"tiny","prompt":"a private text"})", key);
  EXPECT_EQ(post("/metrics", "", key).status, 405U);
  Client client(server->port());
  client.send("GET /metrics HTTP/1.1\r\n" + key + "\r\n");
  const std::string body = client.read_response().body;
  EXPECT_NE(body.find("ultraspeed:generation_tokens_total"), std::string::npos);
  EXPECT_EQ(body.find("secret"), std::string::npos);
  EXPECT_EQ(body.find("private"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::server
