// From a prepared request to the engine: the bill, the answer, the jobs.
#include <fmt/format.h>

#include <utility>

#include "server/api_server.h"
#include "server/make_answer.h"
#include "server/offer.h"
#include "server/release.h"

namespace ultraspeed::server {
namespace {

constexpr uint32_t kMaxChatCandidates = 8;
constexpr int kComplimentaryTier = static_cast<int>(ServiceTier::kFlex) + 1;  // behind all others

}  // namespace

// The most tokens that all candidates may have, and so of what the request may cost.
uint64_t ApiServer::max_output_tokens(const PreparedGeneration& prepared) const {
  uint64_t sum = 0;
  for (const std::vector<int32_t>& prompt : prepared.prompts) {
    const uint32_t room = model_.engine->max_context() - static_cast<uint32_t>(prompt.size());
    const uint32_t asked = prepared.request.params.max_tokens;
    sum += asked == 0 ? room : std::min(asked, room);
  }
  return sum * prepared.request.choices.num_candidates;
}

// With accounts: holds what the answer may cost. What cannot be paid makes it shorter. False: it
// was refused.
bool ApiServer::open_bill(const PreparedGeneration& prepared, Exchange& exchange,
                          uint32_t* max_tokens) {
  if (options_.service == nullptr) return true;
  access::Service& service = *options_.service;
  const bool is_chat = exchange.api_key.empty();
  const bool is_fast = prepared.request.tier == ServiceTier::kFast && !model_.fast_name.empty();
  const int64_t account = exchange.identity.account.id;
  const auto refuse = [&exchange](const ApiError& error) {
    exchange.fail(error);
    return false;
  };
  access::Order order;
  order.tier = is_fast ? access::Tier::kFast : access::Tier::kStandard;
  order.model = is_fast ? model_.fast_name : model_.name;
  order.is_complimentary = is_chat;
  for (const std::vector<int32_t>& prompt : prepared.prompts) {
    order.input_tokens += static_cast<uint32_t>(prompt.size());
  }
  const size_t num_answers = prepared.prompts.size() * prepared.request.choices.num_candidates;
  const auto max_output = max_output_tokens(prepared);
  if (max_output > INT32_MAX) {
    return refuse(
        invalid_field("max_tokens", "All candidates together may have too many tokens.").value());
  }
  order.max_output_tokens = std::max(1u, static_cast<uint32_t>(max_output));
  order.num_answers = static_cast<uint32_t>(num_answers);
  std::function<void()> on_end;
  if (is_chat) {
    if (prepared.request.choices.num_candidates > kMaxChatCandidates) {
      return refuse(invalid_field("n", fmt::format("A chat's answer has at most {} candidates.",
                                                   kMaxChatCandidates))
                        .value());
    }
    const auto turn = service.chat().begin_answer(account, order.input_tokens);
    if (!turn) return refuse(from_refusal(turn.error()));
    exchange.latest_end = std::chrono::steady_clock::now() + turn->left;
    on_end = [&service, account, turn = *turn] { service.chat().end_answer(account, turn); };
  } else {
    auto identity = admit_to_tier(service, exchange.api_key, order.tier);
    if (!identity) return refuse(identity.error());
    exchange.identity = *std::move(identity);
  }
  auto reservation = service.reserve(exchange.identity, order);
  if (!reservation) {
    if (on_end) on_end();
    return refuse(from_refusal(reservation.error()));
  }
  const auto bill = std::make_shared<Bill>(*std::move(reservation), std::move(on_end));
  exchange.set_bill(bill);
  exchange.add_headers({{"X-Ledger-Id", bill->id()}});
  if (bill->max_output_tokens() == order.max_output_tokens) return true;
  *max_tokens = static_cast<uint32_t>(bill->max_output_tokens() / num_answers);
  if (*max_tokens > 0) return true;
  return refuse(cannot_be_paid(num_answers));
}

void ApiServer::generate(PreparedGeneration prepared, const std::shared_ptr<Exchange>& exchange) {
  if (is_aborting_) return exchange->fail(draining());
  const GenerationRequest& request = prepared.request;
  uint32_t max_tokens = request.params.max_tokens;
  if (!open_bill(prepared, *exchange, &max_tokens)) return;
  std::span<const std::string_view> markers;
  if (prepared.api != Api::kCompletions) markers = answer_markers(prepared.parser.syntax);
  auto answer =
      make_answer(prepared, model_, fmt::format("ultraspeed-{}", kServerVersion),
                  exchange->request_id(), {.calls = &calls_, .responses = &store_of(*exchange)});
  const std::vector<OutputText> outputs(
      prepared.prompts.size() * request.choices.num_candidates,
      OutputText(*model_.tokenizer, std::move(prepared.stop),
                 {.skip_special = request.skip_special_tokens, .markers = markers}));
  const auto generation =
      std::make_shared<Generation>(exchange, std::move(answer), outputs, request.choices,
                                   request.stream, thread_of(request), *model_.tokenizer);
  if (request.choices.selection == Selection::kJudge) {
    generation->set_judge(
        [this, chat = std::move(prepared.chat), question = request.choices.judge_prompt](
            std::shared_ptr<Generation> asking, const std::vector<std::string>& texts) {
          ask_judge(chat, question, std::move(asking), texts);
        });
  }
  const uint64_t seed = request.has_seed ? request.params.sampling.seed : seeds_();
  std::shared_ptr<JobBudget> budget;
  if (request.budget) budget = std::make_shared<JobBudget>(JobBudget{*request.budget, {}});
  std::vector<Job> jobs;
  for (std::vector<int32_t>& prompt : prepared.prompts) {
    Job& job = jobs.emplace_back();
    job.prompt = std::move(prompt);
    job.params = request.params;
    job.params.max_tokens = max_tokens;
    job.params.sampling.seed = seed;
    if (!options_.shares_prefixes) job.params.cache_domain = exchange->cache_domain;
    job.params.cache_domain += request.params.cache_domain;
    job.constraint = prepared.constraint;
    job.tier = static_cast<int>(request.tier);
    job.priority = request.priority;
    if (options_.service != nullptr) {  // nobody goes before others who pay the same
      job.priority = std::max<decltype(job.priority)>(job.priority, 0);
      if (exchange->api_key.empty()) job.tier = kComplimentaryTier;
    }
    job.group = std::make_shared<JobGroup>();
    job.group->budget = budget;
    job.group->deadline = exchange->latest_end;
    if (request.deadline) {
      const auto asked = exchange->arrival() + *request.deadline;
      job.group->deadline = std::min(exchange->latest_end.value_or(asked), asked);
    }
  }
  generation->start(std::move(jobs));
}

// What a judge reads is not billed, but it is work. False: the minute has no room for it.
bool ApiServer::count_unbilled(const access::Identity& identity, size_t num_tokens) {
  return options_.service == nullptr ||
         options_.service->count_tokens(identity, static_cast<uint32_t>(num_tokens)).has_value();
}

void ApiServer::ask_judge(const text::ChatRequest& chat, const std::string& question,
                          std::shared_ptr<Generation> asking,
                          const std::vector<std::string>& texts) {
  parse_pool_->run([this, chat, question, held = released_by(post(), std::move(asking)), texts] {
    auto prepared = std::make_shared<ApiResult<PreparedGeneration>>(prepare_judgement(
        model_, defaults_, ClientGrammars(*grammars_, {}), calls_, chat, question, texts));
    http_->post([this, asking = held, prepared] {
      if (!*prepared) return asking->judged(std::nullopt);
      const size_t num_read = (*prepared)->prompts.front().size();
      if (!count_unbilled(asking->identity(), num_read)) return asking->judged(std::nullopt);
      Job job = asking->judge_job();
      job.prompt = std::move((*prepared)->prompts.front());
      std::string domain = std::move(job.params.cache_domain);
      job.params = std::move((*prepared)->request.params);
      job.params.cache_domain = std::move(domain);
      job.constraint = std::move((*prepared)->constraint);
      asking->judge_with(std::move(job));
    });
  });
}

}  // namespace ultraspeed::server
