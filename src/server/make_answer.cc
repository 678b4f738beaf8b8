#include "server/make_answer.h"

#include <fmt/format.h>

#include <ctime>
#include <string_view>
#include <utility>
#include <vector>

#include "server/exchange.h"
#include "server/responses_answer.h"

namespace ultraspeed::server {
namespace {

std::string_view id_prefix(Api api) {
  switch (api) {
    case Api::kCompletions:
      return "cmpl-";
    case Api::kChat:
      return "chatcmpl-";
    case Api::kMessages:
      return "msg_";
    case Api::kResponses:
      return "resp_";
  }
  return {};
}

}  // namespace

std::unique_ptr<Answer> make_answer(PreparedGeneration& prepared, const ServedModel& model,
                                    std::string system_fingerprint, std::string request_id,
                                    const AnswerMemory& memory) {
  const GenerationRequest& request = prepared.request;
  AnswerHead head;
  head.id = fmt::format("{}{}", id_prefix(prepared.api), random_id());
  head.created_s = std::time(nullptr);
  const bool is_fast = request.tier == ServiceTier::kFast && !model.fast_name.empty();
  head.model = is_fast ? model.fast_name : model.name;
  head.system_fingerprint = std::move(system_fingerprint);
  head.service_tier = request.service_tier;
  head.speed = request.speed;
  head.request_id = std::move(request_id);
  const AnswerOptions options{request.has_logprobs,
                              request.include_usage,
                              request.has_prompt_logprobs,
                              !prepared.echoes.empty(),
                              request.has_continuous_usage,
                              prepared.prompts.front().size(),
                              prepared.parser.starts_in_reasoning,
                              prepared.parser.syntax};
  const text::Tokenizer& tokenizer = *model.tokenizer;
  const size_t num_candidates = request.choices.num_candidates;
  switch (prepared.api) {
    case Api::kCompletions:
      break;
    case Api::kChat: {
      std::vector<ChatTurn> turns;
      for (size_t i = 0; i < num_candidates; ++i) {
        turns.emplace_back(prepared.parser, memory.calls);
        prepared.parser.id_prefix = "call_" + random_id();
      }
      return make_chat_answer(std::move(head), options, tokenizer, std::move(turns));
    }
    case Api::kMessages:
      return make_messages_answer(std::move(head), prepared.prompts.front().size(),
                                  ChatTurn(std::move(prepared.parser), memory.calls));
    case Api::kResponses:
      return make_responses_answer(std::move(head), options, tokenizer,
                                   ChatTurn(std::move(prepared.parser), memory.calls),
                                   std::move(prepared.responses), *memory.responses);
  }
  std::vector<std::string> echoes;
  for (size_t i = 0; i < prepared.prompts.size() * num_candidates; ++i) {
    echoes.push_back(prepared.echoes.empty() ? "" : prepared.echoes[i / num_candidates]);
  }
  return make_completion_answer(std::move(head), options, tokenizer, std::move(echoes),
                                num_candidates);
}

}  // namespace ultraspeed::server
