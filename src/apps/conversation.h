// The messages of a chat and the answer to the last of them.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "apps/generation.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "base/result.h"

namespace ultraspeed::apps {

struct AnswerObserver {
  std::function<Status(std::string_view reasoning)> on_reasoning;
  std::function<Status(std::string_view content)> on_content;
  std::function<void(const GenerationResult& so_far)> on_step;
  std::function<bool()> should_stop;
};

struct Answer {
  GenerationResult generation;
  size_t prompt_tokens = 0;
};

class Conversation {
 public:
  // REQUIRES: both outlive it.
  Conversation(const LoadedModel& model, engine::Engine& engine, TemplateOptions options,
               std::optional<std::string> system);

  // Adds the user's message and the answer, which may be interrupted. After an error the
  // conversation is as it was before. `request` says all but the prompt.
  Result<Answer> ask(std::string_view message, GenerationRequest request,
                     const AnswerObserver& observer);

  void reset();  // forgets all messages but the system's

 private:
  const LoadedModel& model_;
  engine::Engine& engine_;
  TemplateOptions options_;
  std::optional<std::string> system_;
  nlohmann::ordered_json messages_;
};

}  // namespace ultraspeed::apps
