// ultraspeed serve as a process: flags and environment, where it listens, and how it ends. The API
// itself is tested in src/server.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "e2e/cli.h"

namespace ultraspeed::test {
namespace {

// One request on a connection of its own.
class Connection {
 public:
  Connection(uint16_t port, const std::string& request) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool is_sent =
        connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
        write(socket_, request.data(), request.size()) == static_cast<ssize_t>(request.size());
    EXPECT_TRUE(is_sent);
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // What comes next; empty at the end.
  std::string read_some() const {
    std::array<char, 4096> chunk = {};
    const ssize_t count = read(socket_, chunk.data(), chunk.size());
    return count <= 0 ? "" : std::string(chunk.data(), static_cast<size_t>(count));
  }
  std::string read_all() const {
    std::string all;
    for (std::string some = read_some(); !some.empty(); some = read_some()) all += some;
    return all;
  }

 private:
  const int socket_ = socket(AF_INET, SOCK_STREAM, 0);
};

std::string get(uint16_t port, const std::string& path, const std::string& headers = "") {
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n";
  return Connection(port, request).read_all();
}

std::string completion_request(const std::string& body) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
         "Content-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

// The port of the line "listening on http://127.0.0.1:PORT"; 0 when it does not come.
uint16_t wait_for_port(const Process& process) {
  const std::string begin = "listening on http://127.0.0.1:";
  if (!process.wait_for_errors(begin)) return 0;
  const std::string errors = process.errors();
  return static_cast<uint16_t>(std::stoi(errors.substr(errors.find(begin) + begin.size())));
}

ProcessInput serve(std::vector<std::string> flags, std::vector<std::string> environment = {}) {
  ProcessInput input;
  input.arguments = {binary_path(), "serve", "--model", kTinyMimo};
  input.arguments.insert(input.arguments.end(), flags.begin(), flags.end());
  input.environment = std::move(environment);
  return input;
}

TEST(Serve, AnswersUntilASignal) {
  Process process(serve({"--port", "0"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  EXPECT_TRUE(get(port, "/health").starts_with("HTTP/1.1 200"));
  EXPECT_NE(get(port, "/v1/models").find("\"tiny-mimo\""), std::string::npos);
  const Connection completion(port, completion_request(R"({"model": "tiny-mimo", "max_tokens": 4,
      "prompt": "#include <", "temperature": 0})"));
  const std::string answer = completion.read_all();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_NE(answer.find("\"finish_reason\":\"length\""), std::string::npos) << answer;
  process.send_signal(SIGTERM);
  const Finished finished = process.wait();
  const std::string first_request =
      "\ntry: curl http://127.0.0.1:" + std::to_string(port) + "/v1/chat/completions -H ";
  EXPECT_NE(finished.errors.find(first_request), std::string::npos) << finished.errors;
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.output, "");
  EXPECT_NE(finished.errors.find("draining"), std::string::npos);
}

// What the engine has, which shares out the columns of its program.
TEST(Serve, StepsHaveColumnsForTheSessionsDrafts) {
  const auto columns = [](const std::vector<std::string>& flags,
                          const std::vector<std::string>& environment = {}) {
    std::vector<std::string> all = {"--port", "0", "--context", "256"};
    all.insert(all.end(), flags.begin(), flags.end());
    Process process(serve(all, environment));
    EXPECT_NE(wait_for_port(process), 0) << process.errors();
    process.send_signal(SIGTERM);
    const std::string errors = process.wait().errors;
    const size_t end = errors.find(" columns a decode step");
    if (end == std::string::npos) return std::string("no columns in: ") + errors;
    const size_t begin = errors.rfind(' ', end - 1) + 1;
    return errors.substr(begin, end - begin);
  };
  EXPECT_EQ(columns({}), "64");  // 8 sessions
  EXPECT_EQ(columns({"--drafter", "none"}), "8");
  EXPECT_EQ(columns({"--decode-width", "24"}, {"ULTRASPEED_DECODE_WIDTH=16"}), "24");
  EXPECT_EQ(columns({}, {"ULTRASPEED_DECODE_WIDTH=16"}), "16");
}

// Whether the second of two requests with the same prompt computes it anew.
bool computes_again(const std::vector<std::string>& flags) {
  std::vector<std::string> all = {"--port", "0", "--context", "256"};
  all.insert(all.end(), flags.begin(), flags.end());
  Process process(serve(all));
  const uint16_t port = wait_for_port(process);
  EXPECT_NE(port, 0) << process.errors();
  std::string answer;
  for (int i = 0; i < 2; ++i) {
    answer = Connection(port, completion_request(R"({"model": "tiny-mimo", "max_tokens": 2,
        "prompt": "#include <stdio.h>\n#include <stdlib.h>\n", "temperature": 0})"))
                 .read_all();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  }
  return answer.find("\"cached_tokens\":0}") != std::string::npos;
}

TEST(Serve, PromptsTakeOverWhatEarlierOnesLeft) {
  EXPECT_FALSE(computes_again({}));
  EXPECT_FALSE(computes_again({"--enable-prefix-caching", "--prefix-cache-slots", "1"}));
  EXPECT_TRUE(computes_again({"--no-prefix-caching"}));
}

TEST(Serve, DecodesWithADrafter) {
  const TemporaryDirectory drafter;
  write_tiny_drafter(drafter.path());
  Process process(serve({"--port", "0", "--drafter", drafter.path(), "--block", "4"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  const Connection completion(
      port, completion_request(R"({"model": "tiny-mimo", "prompt": "#include <", "max_tokens": 8,
                                   "temperature": 0})"));
  const std::string answer = completion.read_all();
  const auto expected =
      run_cli_json({"run", "--prompt", "#include <", "--greedy", "-n", "8", "--drafter", "none"});
  EXPECT_NE(answer.find("\"text\":" + expected["text"].dump()), std::string::npos) << answer;
  process.send_signal(SIGTERM);
  EXPECT_EQ(process.wait().exit_code, 0);
}

TEST(Serve, IsMeasuredByBenchServe) {
  const TemporaryDirectory directory;
  const std::string json_file = directory.path() + "/load.json";
  const std::string svg_file = directory.path() + "/load.svg";
  Process process(serve({"--port", "0", "--api-key", "secret"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  const std::string url = "http://127.0.0.1:" + std::to_string(port);
  const Finished load = run_cli({"bench", "serve", "--url", url, "--api-key", "secret",
                                 "--requests", "4", "--concurrency", "2", "-n", "6", "--ignore-eos",
                                 "--json", json_file, "--plot", svg_file});
  EXPECT_EQ(load.exit_code, 0) << load.errors;
  EXPECT_NE(load.output.find("tiny-mimo at " + url), std::string::npos) << load.output;
  EXPECT_NE(load.errors.find("Requests: 4 requests in"), std::string::npos) << load.errors;
  const std::string text = read_text(json_file);
  EXPECT_EQ(text.find("secret"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["tokens"], 24);
  EXPECT_EQ(json["succeeded"], 4);
  EXPECT_EQ(json["server_accepted_lengths"], 4);
  EXPECT_TRUE(read_text(svg_file).starts_with("<svg "));
  const Finished refused = run_cli({"bench", "serve", "--url", url, "--model", "tiny-mimo",
                                    "--requests", "2", "--api-key", "wrong"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.errors.find("all 2 requests failed; 2 of them: HTTP 401: The API key"),
            std::string::npos)
      << refused.errors;
}

TEST(Serve, AnAnswerUnderWayIsFinishedAfterASignal) {
  Process process(serve({"--port", "0"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  const Connection completion(
      port, completion_request(R"({"model": "tiny-mimo", "prompt": "#include <", "max_tokens": 60,
                                   "temperature": 0, "ignore_eos": true, "stream": true})"));
  std::string answer = completion.read_some();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_EQ(answer.find("[DONE]"), std::string::npos);
  process.send_signal(SIGTERM);
  answer += completion.read_all();
  EXPECT_NE(answer.find("[DONE]"), std::string::npos) << answer;
  EXPECT_NE(answer.find("\"length\""), std::string::npos) << answer;
  EXPECT_EQ(process.wait().exit_code, 0);
}

TEST(Serve, TakesFlagsFromTheEnvironment) {
  Process process(serve({}, {"ULTRASPEED_PORT=0", "ULTRASPEED_API_KEY=secret",
                             "ULTRASPEED_SERVED_MODEL_NAME=other", "ULTRASPEED_MAX_SESSIONS=2"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  EXPECT_NE(process.errors().find("2 sessions"), std::string::npos);
  EXPECT_TRUE(get(port, "/v1/models").starts_with("HTTP/1.1 401"));
  EXPECT_NE(get(port, "/v1/models", "Authorization: Bearer secret\r\n").find("\"other\""),
            std::string::npos);
  process.send_signal(SIGINT);
  EXPECT_EQ(process.wait().exit_code, 0);
}

TEST(Serve, TakesFlagsFromAFileAndAContextBeyondTheCheckpoints) {
  const TemporaryDirectory directory;
  const std::string file = write_text(directory.path(), "serve.toml",
                                      "port = 0\nserved-model-name = 'file'\nmax-num-seqs = 1\n"
                                      "max-model-len = 9000\n");
  Process process(serve({"--config", file}, {"ULTRASPEED_SERVED_MODEL_NAME=environment"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  const std::string models = get(port, "/v1/models");
  EXPECT_NE(models.find("\"environment\""), std::string::npos) << models;
  EXPECT_NE(models.find("\"max_model_len\":9000"), std::string::npos) << models;
  EXPECT_NE(process.errors().find("--context 9000: the model is made for 8192 positions"),
            std::string::npos);
  const Finished refused =
      run_process(serve({"--config", write_text(directory.path(), "wrong.toml", "\nprot = 1\n")}));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.errors.find("wrong.toml:2: 'prot' is no flag of serve"), std::string::npos)
      << refused.errors;
  process.send_signal(SIGTERM);
  EXPECT_EQ(process.wait().exit_code, 0);
}

TEST(Serve, FlagsWinOverTheEnvironmentAndKeysMayLieInAFile) {
  const TemporaryDirectory directory;
  Process process(serve({"--port", "0", "--served-model-name", "flag", "--api-key-file",
                         write_text(directory.path(), "key", "from-file\n")},
                        {"ULTRASPEED_SERVED_MODEL_NAME=environment"}));
  const uint16_t port = wait_for_port(process);
  ASSERT_NE(port, 0) << process.errors();
  EXPECT_TRUE(get(port, "/v1/models").starts_with("HTTP/1.1 401"));
  EXPECT_NE(get(port, "/v1/models", "Authorization: Bearer from-file\r\n").find("\"flag\""),
            std::string::npos);
}

TEST(Serve, OtherMachinesNeedAKey) {
  const Finished refused = run_process(serve({"--port", "0", "--host", "0.0.0.0"}));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.errors.find("give one with --api-key-file"), std::string::npos)
      << refused.errors;
  EXPECT_EQ(refused.errors.find("Loading"), std::string::npos) << "it loaded the model first";
}

TEST(Serve, APortInUseIsAnError) {
  Process first(serve({"--port", "0"}));
  const uint16_t port = wait_for_port(first);
  ASSERT_NE(port, 0) << first.errors();
  const Finished second = run_process(serve({"--port", std::to_string(port)}));
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_NE(second.errors.find(std::to_string(port)), std::string::npos) << second.errors;
}

}  // namespace
}  // namespace ultraspeed::test
