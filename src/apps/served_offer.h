// What serve offers beside one model: accounts, where a file has an [access] section, and two modes
// of the model.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "access/service.h"
#include "apps/loaded_model.h"
#include "base/result.h"
#include "engine/engine.h"
#include "server/server.h"

namespace ultraspeed::apps {

// Accounts and prices, with the clock that they go by.
struct OpenedService {
  std::unique_ptr<access::Clock> clock;
  std::unique_ptr<access::Service> service;
};

// nullopt: no file, or one without [access]. `test_clock`: test-only, a file with the number of
// seconds that the service's clock is ahead of the machine's, read whenever it is asked; empty: the
// machine's. Errors: those of access::parse_config() and access::Service::open().
Result<std::optional<OpenedService>> open_service(const std::string& config_file,
                                                  const std::string& test_clock);

// Errors: kInvalidArgument for models whose tokens differ.
Status check_same_vocabulary(const LoadedModel& standard, const LoadedModel& fast);

// The model that the standard mode decodes, on an engine of its own and without drafts.
class StandardModel {
 public:
  // `fast`: the other mode's. Errors: those of LoadedModel; kInvalidArgument for another vocabulary
  // than the fast mode's.
  static Result<std::unique_ptr<StandardModel>> open(const std::string& directory,
                                                     const ModelOptions& options,
                                                     uint32_t max_sessions,
                                                     const LoadedModel& fast);

  engine::Engine& engine() const { return *engine_; }
  std::string weights() const;  // what they are, for people

 private:
  explicit StandardModel(LoadedModel model) : model_(std::move(model)) {}

  LoadedModel model_;
  std::unique_ptr<engine::Engine> engine_;
};

std::string weights_text(const LoadedModel& model);

}  // namespace ultraspeed::apps
