// A server with a scriptable handler on a free loopback port, for the tests of net/.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "net/http_server.h"

namespace ultraspeed::net {

// A value that one thread sets and another waits for.
template <class T>
class Awaited {
 public:
  void set(T value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    is_set_ = true;
    changed_.notify_all();
  }
  // False after `timeout_ms` without a value.
  bool wait(T* value, int timeout_ms = 5000) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return is_set_; })) {
      return false;
    }
    *value = std::exchange(value_, T{});
    is_set_ = false;
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_{};
  bool is_set_ = false;
};

// GET or POST /echo answers at once with method, path and body; everything else is handed to the
// test as a Held request.
class TestHandler : public HttpHandler {
 public:
  struct Held {
    HttpRequest request;
    std::shared_ptr<ResponseWriter> writer;
  };

  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override {
    if (request.path() == "/echo") {
      const std::string body = request.method + " " + request.path() + " " + request.body;
      return writer->send({200, {{"X-Test", "yes"}}, body});
    }
    held.set({std::move(request), std::move(writer)});
  }
  HttpResponse error_response(const HttpRequest& request, unsigned status,
                              std::string_view message) override {
    return {status, {{"X-Target", request.target}}, "error: " + std::string(message)};
  }

  Awaited<Held> held;
};

// Answers every request alike, and remembers it. Members are the test's while no request is under
// way.
class RepeatingHandler : public HttpHandler {
 public:
  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override {
    requests.push_back(std::move(request));
    writer->send(answer);
  }
  HttpResponse error_response(const HttpRequest&, unsigned status, std::string_view) override {
    return {status, {}, ""};
  }

  HttpResponse answer;
  std::vector<HttpRequest> requests;
};

// A server with this handler.
template <class Handler>
class ServerWithHandler : public testing::Test {
 protected:
  void start_server() {
    auto result = HttpServer::listen(options, handler);
    ASSERT_TRUE(result) << result.error().message;
    server = std::move(*result);
    server->start();
  }

  HttpOptions options;
  Handler handler;
  std::unique_ptr<HttpServer> server;
};

class HttpServerTest : public ServerWithHandler<TestHandler> {
 protected:
  TestHandler::Held hold() {
    TestHandler::Held held;
    EXPECT_TRUE(handler.held.wait(&held)) << "no request arrived";
    return held;
  }
};

}  // namespace ultraspeed::net
