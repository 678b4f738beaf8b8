// One streamed answer of an OpenAI-compatible server, as its client sees it: when each event came,
// and what the server said of tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_client.h"
#include "net/sse.h"

namespace ultraspeed::apps {

// Times are in seconds since the request was sent.
struct RequestSample {
  size_t prompt = 0;            // which it asked
  double sent_s = 0;            // since the run began
  std::vector<double> event_s;  // of each event with output: text, reasoning or a tool call
  double last_s = 0;  // of the event that says why the answer ended, else of the last with output
  double end_s = 0;   // of the answer's end
  uint64_t prompt_tokens = 0;
  uint64_t tokens = 0;                    // of the output, as the server counts them
  std::optional<double> accepted_length;  // of the server's timings
  std::string failure;                    // its kind; empty: the answer is whole
  std::string failure_text;               // what was said
};

class StreamReader final : public net::ResponseListener {
 public:
  using Clock = net::HttpClient::Clock;

  // sample->prompt and sent_s are the caller's. `on_over` is called once; then the sample is done.
  StreamReader(RequestSample* sample, std::function<void()> on_over);
  ~StreamReader() override;

  void on_head(unsigned status, const std::vector<net::Header>& headers) override;
  bool on_body(std::string_view bytes) override;
  void on_end() override;
  void on_failed(net::RequestFailure failure, const std::string& message) override;

 private:
  struct Json;  // keeps simdjson out of this header

  double now_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  void take_event(const std::string& data, double at_s);
  bool fail(std::string kind, std::string text);  // false

  RequestSample& sample_;
  const std::function<void()> on_over_;
  const Clock::time_point begin_ = Clock::now();
  const std::unique_ptr<Json> json_;
  net::SseParser parser_;
  std::vector<net::SseEvent> events_;
  unsigned status_ = 0;
  std::string error_body_;  // of an answer that is no stream
  bool has_usage_ = false;
  bool is_done_ = false;  // [DONE] has come
};

// Bytes that are no UTF-8 stay as they are; cut to a line for a person.
std::string short_text(std::string_view text);

}  // namespace ultraspeed::apps
