// The server over an engine with the bundled model, which answers by itself.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/model_texts.h"
#include "net/test_client.h"
#include "server/server.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

using Json = nlohmann::ordered_json;

class Served {
 public:
  explicit Served(const engine::Setup& setup) : engine_(engine::open(setup)) {
    ServedModel model;
    model.name = "tiny";
    model.engine = engine_.get();
    model.tokenizer = &tokenizer();
    model.chat_template = &chat_template();
    model.defaults.sampling.temperature = 0.6F;
    model.defaults.stop_ids = {2, 0};
    spdlog::default_logger();  // made by one thread; the library that makes it tells TSan nothing
    auto server = Server::start(model, {});
    EXPECT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }

  net::TestResponse post(std::string_view route, const Json& body) const {
    net::TestClient client(server_->port());
    client.post(route, body.dump());
    return client.read_response();
  }
  // The first choice of an answer.
  Json ask(std::string_view route, const Json& body) const {
    const net::TestResponse response = post(route, body);
    EXPECT_EQ(response.status, 200u) << response.body;
    return Json::parse(response.body)["choices"][0];
  }

  static const text::Tokenizer& tokenizer() {
    static const auto kTokenizer = text::Tokenizer::load(engine::kModel + "/tokenizer.json");
    return *kTokenizer;
  }

 private:
  static const text::ChatTemplate& chat_template() {
    static const auto kTemplate = text::ChatTemplate::load(engine::kModel);
    return *kTemplate;
  }

  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<Server> server_;
};

}  // namespace ultraspeed::server
