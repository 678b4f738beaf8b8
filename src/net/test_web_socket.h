// A blocking WebSocket client over a TestClient, for tests of servers: it can also send what no
// real client would.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/test_client.h"

namespace ultraspeed::net {

class TestWebSocket {
 public:
  static constexpr uint8_t kText = 1;
  static constexpr uint8_t kBinary = 2;
  static constexpr uint8_t kClose = 8;
  static constexpr uint8_t kPing = 9;
  static constexpr uint8_t kPong = 10;

  struct Frame {
    uint8_t opcode = 0;
    std::string payload;
    uint16_t close_code() const;  // 0: none
  };

  // `headers`: lines of the handshake, each with its end.
  TestWebSocket(uint16_t port, std::string_view target, std::string_view headers = {});

  const TestResponse& handshake() const { return handshake_; }
  TestClient& client() { return client_; }

  void send(std::string_view text) { send_frame(kText, text); }
  void send_frame(uint8_t opcode, std::string_view payload, bool is_final = true);
  std::optional<Frame> read_frame();  // nullopt: the connection ended
  // The next text message, on the way to which pings are answered; empty: the connection ended.
  std::string read();
  // The code of the close frame that comes next, whatever comes before it; 0: there was none.
  uint16_t read_close();

 private:
  TestClient client_;
  TestResponse handshake_;
};

}  // namespace ultraspeed::net
