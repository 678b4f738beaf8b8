// What a client's request was answered with, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_client.h"

namespace ultraspeed::net {

struct RecordingResponse : ResponseListener {
  void on_head(unsigned response_status, const std::vector<Header>& response_headers) override {
    status = response_status;
    headers = response_headers;
  }
  bool on_body(std::string_view bytes) override {
    body += bytes;
    if (on_piece) on_piece();
    return body.size() < max_body;
  }
  void on_end() override { ++num_ends; }
  void on_failed(RequestFailure how, const std::string& text) override {
    EXPECT_FALSE(failure);
    failure = how;
    message = text;
  }

  size_t max_body = SIZE_MAX;
  std::function<void()> on_piece;
  unsigned status = 0;
  std::vector<Header> headers;
  std::string body;
  int num_ends = 0;
  std::optional<RequestFailure> failure;
  std::string message;
};

}  // namespace ultraspeed::net
