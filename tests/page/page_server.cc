// The server for the tests of the page: all of it but the model. Answers are written beforehand
// (docs/serving.md, Answers written beforehand) and come as fast as the test says; with a
// configuration there is the offer, at the time that the test says.
//
// usage: page_server ANSWERS.jsonl [CONFIG.toml]; prints its URL, and obeys lines of standard input
// until it ends, each with "done":
//   pace TOKENS_PER_STEP MICROSECONDS    tokens of a step, and from one step to the next
//   clock SECONDS                        since 1970; it goes on from there
//   advance SECONDS
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "access/service.h"
#include "base/check.h"
#include "server/fake_engine.h"
#include "server/forced_answers.h"
#include "server/server.h"
#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The system's, turned: it begins in 2026, on 1 June.
class TurnedClock final : public access::Clock {
 public:
  TurnedClock() { set(std::chrono::sys_days(std::chrono::June / 1 / 2026)); }
  access::UtcTime now() const override { return system_.now() + milliseconds(ahead_ms_.load()); }
  void set(access::UtcTime time) { ahead_ms_ = (time - system_.now()).count(); }
  void advance(milliseconds time) { ahead_ms_ += time.count(); }

 private:
  access::SystemClock system_;
  std::atomic<int64_t> ahead_ms_ = 0;
};

template <class T>
T value_of(Result<T> result) {
  US_CHECK(result.has_value(), "{}", result.error().message);
  return *std::move(result);
}

std::string read_text(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void obey(const std::string& line, FakeEngine* engine, TurnedClock* clock) {
  std::istringstream words(line);
  std::string command;
  int number = 0;
  words >> command >> number;
  if (command == "pace") {
    int period_us = 0;
    words >> period_us;
    US_CHECK(number > 0 && period_us > 0, "what is '{}'?", line);
    engine->tokens_per_step = static_cast<size_t>(number);
    engine->step_period_us = period_us;
  } else if (command == "clock") {
    clock->set(access::UtcTime(seconds(number)));
  } else {
    US_CHECK(command == "advance", "what is '{}'?", line);
    clock->advance(seconds(number));
  }
}

// With the administrator "root".
std::unique_ptr<access::Service> open_service(const char* path, const TurnedClock& clock) {
  const auto config = value_of(access::parse_config(path, read_text(path)));
  US_CHECK(config.has_value(), "{} has no [access]", path);
  auto service = value_of(access::Service::open(
      *config, clock, [](const Error& error) { fmt::print(stderr, "{}\n", error.message); }));
  value_of(service->accounts().create_administrator("root", "correct horse battery"));
  return service;
}

void serve(const char* answers_path, const char* config_path) {
  const auto answers = value_of(
      ForcedAnswers::parse(read_text(answers_path), answers_path, test_tokenizer(), kTestStopId));
  TurnedClock clock;
  FakeEngine engine;
  engine.follows_constraints = true;
  engine.records_starts = false;
  engine.context = 32768;
  engine.max_sessions = 16;
  engine.prefill_width = 4096;
  engine.reply = test_ids("No answer was written for this.");
  engine.reply.push_back(kTestStopId);
  obey("pace 4 2000", &engine, &clock);
  ServedModel model;
  model.name = "tiny-mimo";
  model.engine = &engine;
  model.tokenizer = &test_tokenizer();
  model.chat_template = &test_chat_template();
  model.defaults.stop_ids = {kTestStopId};
  model.forced_answers = &answers;
  ServerOptions options;
  std::unique_ptr<access::Service> service;
  if (config_path != nullptr) {
    model.fast_name = "tiny-mimo-ultraspeed";
    service = open_service(config_path, clock);
    options.service = service.get();
  }
  const auto server = value_of(Server::start(model, options));
  fmt::print(stderr, "listening on {}\n", server->url());
  for (std::string line; std::getline(std::cin, line);) {
    obey(line, &engine, &clock);
    fmt::print(stderr, "done\n");
  }
  server->stop(0);
}

}  // namespace
}  // namespace ultraspeed::server

int main(int argc, char** argv) {
  US_CHECK(argc == 2 || argc == 3, "usage: page_server ANSWERS.jsonl [CONFIG.toml]");
  ultraspeed::server::serve(argv[1], argc == 3 ? argv[2] : nullptr);
  return 0;
}
