#include "apps/conversation.h"

#include <utility>

#include "server/chat_parser.h"

namespace ultraspeed::apps {
namespace {

// Splits an answer while it comes, and collects both parts.
class Splitter {
 public:
  Splitter(server::ChatParserOptions form, const AnswerObserver& observer)
      : parser_(std::move(form)), observer_(observer) {}

  Status push(std::string_view text) { return take(parser_.push(text)); }
  Status finish() { return take(parser_.finish(false)); }

  nlohmann::ordered_json message() const {
    nlohmann::ordered_json message = {{"role", "assistant"}, {"content", content_}};
    if (!reasoning_.empty()) message["reasoning_content"] = reasoning_;
    return message;
  }

 private:
  Status take(const std::vector<server::ChatEvent>& events) {
    for (const server::ChatEvent& event : events) {
      const bool is_reasoning = event.kind == server::ChatEvent::Kind::kReasoning;
      (is_reasoning ? reasoning_ : content_) += event.text;
      US_TRY(is_reasoning ? observer_.on_reasoning(event.text) : observer_.on_content(event.text));
    }
    return {};
  }

  server::ChatParser parser_;
  const AnswerObserver& observer_;
  std::string reasoning_;
  std::string content_;
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
  server::ChatParserOptions form = answer_form(model_, request.prompt);
  request.syntax = form.syntax;
  Splitter splitter(std::move(form), observer);
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
