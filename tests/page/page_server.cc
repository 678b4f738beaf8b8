// The server for the tests of the page: all of it but the model. Answers are written beforehand
// (docs/serving.md, Answers written beforehand) and come as fast as the test says.
//
// usage: page_server ANSWERS.jsonl; prints its URL, and obeys lines of standard input until it
// ends:
//   pace TOKENS_PER_STEP MICROSECONDS    tokens of a step, and from one step to the next
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/check.h"
#include "server/fake_engine.h"
#include "server/forced_answers.h"
#include "server/server.h"
#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

void obey(const std::string& line, FakeEngine* engine) {
  std::istringstream words(line);
  std::string command;
  size_t num_tokens = 0;
  int period_us = 0;
  words >> command >> num_tokens >> period_us;
  US_CHECK(command == "pace" && num_tokens > 0 && period_us > 0, "what is '{}'?", line);
  engine->tokens_per_step = num_tokens;
  engine->step_period_us = period_us;
}

int serve(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string lines{std::istreambuf_iterator<char>(file), {}};
  const auto answers = ForcedAnswers::parse(lines, path, test_tokenizer(), kTestStopId);
  US_CHECK(answers, "{}", answers.error().message);
  FakeEngine engine;
  engine.follows_constraints = true;
  engine.records_starts = false;
  engine.context = 32768;
  engine.max_sessions = 16;
  engine.prefill_width = 4096;
  engine.reply = test_ids("No answer was written for this.");
  engine.reply.push_back(kTestStopId);
  obey("pace 4 2000", &engine);
  ServedModel model;
  model.name = "tiny-mimo";
  model.engine = &engine;
  model.tokenizer = &test_tokenizer();
  model.chat_template = &test_chat_template();
  model.defaults.stop_ids = {kTestStopId};
  model.forced_answers = &*answers;
  const auto server = Server::start(model, {});
  US_CHECK(server, "{}", server.error().message);
  fmt::print(stderr, "listening on {}\n", (*server)->url());
  for (std::string line; std::getline(std::cin, line);) obey(line, &engine);
  (*server)->stop(0);
  return 0;
}

}  // namespace
}  // namespace ultraspeed::server

int main(int argc, char** argv) {
  US_CHECK(argc == 2, "usage: page_server ANSWERS.jsonl");
  return ultraspeed::server::serve(argv[1]);
}
