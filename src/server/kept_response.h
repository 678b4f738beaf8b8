// An answer that is kept instead of sent.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/http_server.h"

namespace ultraspeed::server {

class KeptResponse final : public net::ResponseWriter {
 public:
  void send(net::HttpResponse given) override { response = std::move(given); }
  void start_stream(net::StreamHead) override {}
  void write(std::string) override {}
  void finish() override {}
  void upgrade(std::shared_ptr<net::WebSocketHandler>, std::vector<net::Header>) override {}
  void on_close(std::function<void(net::CloseReason)>) override {}

  net::HttpResponse response;
};

}  // namespace ultraspeed::server
