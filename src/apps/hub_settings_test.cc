#include "apps/hub_settings.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/environment.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

class HubSettings : public testing::Test {
 protected:
  HubSettings() {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME",
                             "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
                             "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
      environment_.unset(name);
    }
    environment_.set("HOME", home_.path());
  }
  std::string token() const {
    const auto options = hub_client_options();
    return options ? options->token : options.error().message;
  }
  std::string refusal() const {
    const auto options = hub_client_options();
    return options ? "" : options.error().message;
  }

  const test::TemporaryDirectory home_;
  test::Environment environment_;
};

TEST_F(HubSettings, TheCacheIsWhereHuggingFacesToolsHaveIt) {
  EXPECT_EQ(hub_cache_folder(), home_.path() + "/.cache/huggingface/hub");
  environment_.set("XDG_CACHE_HOME", "/xdg");
  EXPECT_EQ(hub_cache_folder(), "/xdg/huggingface/hub");
  environment_.set("HF_HOME", "~/hf");
  EXPECT_EQ(hub_cache_folder(), home_.path() + "/hf/hub");
  environment_.set("HF_HUB_CACHE", "/cache");
  EXPECT_EQ(hub_cache_folder(), "/cache");
  environment_.set("HF_HUB_CACHE", "");
  EXPECT_EQ(hub_cache_folder(), home_.path() + "/hf/hub") << "an empty variable is none";
}

TEST_F(HubSettings, ATokenIsOfTheVariableOrOfTheFile) {
  EXPECT_EQ(token(), "");
  environment_.set("HF_HOME", home_.path());
  std::ofstream(home_.path() + "/token") << "hf_file\n";
  EXPECT_EQ(token(), "hf_file");
  std::ofstream(home_.path() + "/other") << " hf_other ";
  environment_.set("HF_TOKEN_PATH", "~/other");
  EXPECT_EQ(token(), "hf_other");
  environment_.set("HF_TOKEN", " hf_variable\r\n");
  EXPECT_EQ(token(), "hf_variable");
  environment_.set("HF_TOKEN", "a\nHost: b");
  EXPECT_NE(refusal().find("characters that no token has"), std::string::npos);
}

TEST_F(HubSettings, AnotherHubMayBeNamed) {
  EXPECT_EQ(hub_client_options()->endpoint.host, "huggingface.co");
  EXPECT_TRUE(hub_client_options()->endpoint.has_tls);
  environment_.set("HF_ENDPOINT", "http://127.0.0.1:8000/hub/");
  EXPECT_EQ(hub_client_options()->endpoint.path, "/hub");
  environment_.set("HF_ENDPOINT", "hub.local");
  EXPECT_TRUE(refusal().starts_with("HF_ENDPOINT: 'hub.local' is not the URL"));
}

TEST_F(HubSettings, OfflineIsOffline) {
  environment_.set("HF_HUB_OFFLINE", "true");
  EXPECT_TRUE(refusal().starts_with("HF_HUB_OFFLINE is set"));
  environment_.set("HF_HUB_OFFLINE", "0");
  EXPECT_EQ(refusal(), "");
}

}  // namespace
}  // namespace ultraspeed::apps
