// A blocking HTTP client over a raw loopback socket, for tests of servers: it can also send what no
// real client would. Every wait ends after a few seconds; failures are reported through GoogleTest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace ultraspeed::net {

struct TestResponse {
  unsigned status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  int num_chunks = 0;
  bool is_complete = false;
};

class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer_bytes = 0);
  explicit TestClient(const std::string& socket_path);
  ~TestClient();
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  void send(std::string_view bytes);
  void get(std::string_view target);
  void post(std::string_view target, std::string_view body, std::string_view headers = {});

  TestResponse read_response(bool is_head = false);
  // The head alone; the body follows by read_chunk().
  TestResponse read_head();
  std::optional<std::string> read_chunk();  // nullopt: the last chunk, or the connection ended
  bool read_eof();                          // true if the server closes the connection
  std::string read_line();
  std::string read_bytes(size_t size) { return take(size); }  // fewer at the end of file
  void close();
  void reset();  // closes with RST

 private:
  bool fill();  // false at the end of file
  std::string take(size_t size);

  int fd_ = -1;
  std::string input_;
  bool has_timed_out_ = false;
};

}  // namespace ultraspeed::net
