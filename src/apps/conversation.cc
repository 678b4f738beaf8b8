#include "apps/conversation.h"

#include <utility>

#include "server/reasoning_parser.h"

namespace ultraspeed::apps {
namespace {

// Splits an answer while it comes, and collects both parts.
class Splitter {
 public:
  Splitter(bool starts_in_reasoning, const AnswerObserver& observer)
      : parser_(starts_in_reasoning), observer_(observer) {}

  Status push(std::string_view text) { return take(parser_.push(text)); }
  Status finish() { return take(parser_.finish()); }

  nlohmann::ordered_json message() const {
    nlohmann::ordered_json message = {{"role", "assistant"}, {"content", all_.content}};
    if (!all_.reasoning.empty()) message["reasoning_content"] = all_.reasoning;
    return message;
  }

 private:
  Status take(const server::ChatDelta& delta) {
    all_.reasoning += delta.reasoning;
    all_.content += delta.content;
    if (!delta.reasoning.empty()) US_TRY(observer_.on_reasoning(delta.reasoning));
    if (!delta.content.empty()) US_TRY(observer_.on_content(delta.content));
    return {};
  }

  server::ReasoningParser parser_;
  const AnswerObserver& observer_;
  server::ChatDelta all_;
};

}  // namespace

Conversation::Conversation(const LoadedModel& model, engine::Engine& engine,
                           TemplateOptions options, std::optional<std::string> system)
    : model_(model), engine_(engine), options_(options), system_(std::move(system)) {
  reset();
}

void Conversation::reset() {
  messages_ = nlohmann::ordered_json::array();
  if (system_) messages_.push_back({{"role", "system"}, {"content", *system_}});
}

Result<Answer> Conversation::ask(std::string_view message, GenerationRequest request,
                                 const AnswerObserver& observer) {
  nlohmann::ordered_json messages = messages_;
  messages.push_back({{"role", "user"}, {"content", message}});
  US_ASSIGN(request.prompt, encode_messages(model_, messages, {}, options_));
  Splitter splitter(starts_in_reasoning(model_, request.prompt), observer);
  GenerationObserver generation_observer;
  generation_observer.on_text = [&splitter](std::string_view text) { return splitter.push(text); };
  generation_observer.on_step = observer.on_step;
  generation_observer.should_stop = observer.should_stop;
  Answer answer;
  answer.prompt_tokens = request.prompt.size();
  US_ASSIGN(answer.generation, generate(engine_, model_.tokenizer(), request, generation_observer));
  US_TRY(splitter.finish());
  messages.push_back(splitter.message());
  messages_ = std::move(messages);
  return answer;
}

}  // namespace ultraspeed::apps
