#include "net/test_web_socket.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace ultraspeed::net {
namespace {

void append_big_endian(std::string& out, uint64_t value, int num_bytes) {
  for (int i = num_bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
}

uint64_t big_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

}  // namespace

uint16_t TestWebSocket::Frame::close_code() const {
  if (opcode != kClose || payload.size() < 2) return 0;
  return static_cast<uint16_t>(big_endian(payload.substr(0, 2)));
}

TestWebSocket::TestWebSocket(uint16_t port, std::string_view target, std::string_view headers)
    : client_(port) {
  client_.send(
      fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket"
                  "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "{}\r\n",
                  target, headers));
  handshake_ = client_.read_head();
}

void TestWebSocket::send_frame(uint8_t opcode, std::string_view payload, bool is_final) {
  constexpr uint8_t kMasked = 0x80;
  std::string frame(1, static_cast<char>(opcode | (is_final ? 0x80 : 0)));
  if (payload.size() < 126) {
    frame += static_cast<char>(kMasked | payload.size());
  } else {
    const bool is_short = payload.size() < 65536;
    frame += static_cast<char>(kMasked | (is_short ? 126 : 127));
    append_big_endian(frame, payload.size(), is_short ? 2 : 8);
  }
  constexpr std::string_view kMask = "\x12\x34\x56\x78";
  frame += kMask;
  for (size_t i = 0; i < payload.size(); ++i) {
    frame += static_cast<char>(payload[i] ^ kMask[i % kMask.size()]);
  }
  client_.send(frame);
}

std::optional<TestWebSocket::Frame> TestWebSocket::read_frame() {
  const std::string head = client_.read_bytes(2);
  if (head.size() < 2) return std::nullopt;
  Frame frame;
  frame.opcode = head[0] & 0x0F;
  EXPECT_TRUE(head[0] & 0x80) << "a message in several frames";
  uint64_t size = head[1] & 0x7F;
  if (size == 126) size = big_endian(client_.read_bytes(2));
  if (size == 127) size = big_endian(client_.read_bytes(8));
  frame.payload = client_.read_bytes(size);
  return frame;
}

std::string TestWebSocket::read() {
  while (auto frame = read_frame()) {
    if (frame->opcode == kText) return std::move(frame->payload);
    if (frame->opcode == kPing) send_frame(kPong, frame->payload);
    if (frame->opcode == kClose) break;
  }
  return {};
}

uint16_t TestWebSocket::read_close() {
  while (const auto frame = read_frame()) {
    if (frame->opcode == kClose) return frame->close_code();
  }
  return 0;
}

}  // namespace ultraspeed::net
