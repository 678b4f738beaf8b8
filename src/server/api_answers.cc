// What the routes answer.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <utility>

#include "server/api_server.h"
#include "server/json_text.h"
#include "server/response_routes.h"
#include "server/token_requests.h"

namespace ultraspeed::server {

void ApiServer::answer(Route route, net::HttpRequest request,
                       const std::shared_ptr<Exchange>& exchange) {
  switch (route) {
    case Route::kHealth:
      return exchange->respond(health());
    case Route::kMetrics:
      return exchange->respond(metrics());
    case Route::kReady:
      return exchange->respond(readiness());
    case Route::kVersion:
      return respond_json(fmt::format(R"({{"version":"{}"}})", kServerVersion), exchange);
    case Route::kModels:
      return respond_json(model_list(exchange->is_anthropic()), exchange);
    case Route::kModel:
      return answer_model(request.path().substr(kModelsPath.size() + 1), exchange);
    case Route::kCompletions:
      return prepare(
          exchange, std::move(request.body),
          [this, grammars = grammars_of(*exchange)](const std::string& body) {
            return prepare_completion(model_, defaults_, grammars, body);
          },
          &ApiServer::generate);
    case Route::kChatCompletions:
    case Route::kPageChat:
    case Route::kMessages:
      return prepare(
          exchange, std::move(request.body),
          [this, known = known_prompts(*exchange), grammars = grammars_of(*exchange),
           api = route == Route::kMessages ? Api::kMessages : Api::kChat](const std::string& body) {
            return prepare_chat(model_, defaults_, grammars, calls_, known, api, body);
          },
          &ApiServer::generate);
    case Route::kResponses:
      return prepare(
          exchange, std::move(request.body),
          [this, known = known_prompts(*exchange), grammars = grammars_of(*exchange),
           store = &store_of(*exchange)](const std::string& body) -> ApiResult<PreparedGeneration> {
            US_ASSIGN(const Json json, parse_json_object(body));
            return prepare_responses(model_, defaults_, grammars, calls_, known, *store,
                                     kNoConnection, json);
          },
          &ApiServer::generate);
    case Route::kResponse:
    case Route::kInputItems:
      return stored_response(route, request, exchange);
    case Route::kInputTokens:
      return prepare(
          exchange, std::move(request.body),
          [this, store = &store_of(*exchange)](const std::string& body) {
            return count_input_tokens(model_, defaults_, calls_, *store, body);
          },
          &ApiServer::respond_json);
    case Route::kCountTokens:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return count_tokens(model_, defaults_, calls_, body); },
          &ApiServer::respond_json);
    case Route::kTokenize:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return tokenize(model_, defaults_, calls_, body); },
          &ApiServer::respond_json);
    case Route::kDetokenize:
      return prepare(
          exchange, std::move(request.body),
          [this](const std::string& body) { return detokenize(model_, defaults_, body); },
          &ApiServer::respond_json);
    default:
      return;  // the page's, answered before
  }
}

net::HttpResponse ApiServer::health() const {
  const bool is_healthy = engine_thread_->is_healthy() &&
                          (standard_thread_ == nullptr || standard_thread_->is_healthy());
  if (!is_healthy) return json_response(503, R"({"status":"engine fault"})");
  return json_response(200, R"({"status":"ok"})");
}

net::HttpResponse ApiServer::readiness() const {
  const bool is_leaving = is_leaving_.load() || is_draining_.load();
  return is_leaving ? json_response(503, R"({"status":"draining"})") : health();
}

net::HttpResponse ApiServer::metrics() const {
  EngineLoad load = engine_thread_->load();
  load.num_waiting += reading_.num + reading_large_.num;
  if (options_.kv_events != nullptr) load.kv_events = options_.kv_events->counts();
  return {200,
          {{"Content-Type", std::string(kPrometheusContentType)}},
          metrics_->text(model_.name, load)};
}

std::string ApiServer::model_json(std::string_view name, bool is_anthropic) const {
  const uint32_t max_context = model_.engine->max_context();
  std::string out = R"({"id":)";
  append_json_string(out, name);
  if (!is_anthropic) {
    return out + fmt::format(R"(,"object":"model","created":{},"owned_by":"ultraspeed",)"
                             R"("max_model_len":{}}})",
                             start_time_s_, max_context);
  }
  out += R"(,"type":"model","display_name":)";
  append_json_string(out, name);
  return out + fmt::format(R"(,"created_at":"{:%Y-%m-%dT%H:%M:%SZ}","max_input_tokens":{},)"
                           R"("max_tokens":{},"lifecycle":"active","deprecated_at":null,)"
                           R"("retires_at":null,"line":null,"capabilities":null,)"
                           R"("allowed_fallback_models":null}})",
                           fmt::gmtime(start_time_s_), max_context, max_context);
}

std::string ApiServer::model_list(bool is_anthropic) const {
  const std::string& last = model_.fast_name.empty() ? model_.name : model_.fast_name;
  std::string list = R"({"data":[)" + model_json(model_.name, is_anthropic);
  if (!model_.fast_name.empty()) list += ',' + model_json(model_.fast_name, is_anthropic);
  if (!is_anthropic) return list + R"(],"object":"list"})";
  list += R"(],"has_more":false,"first_id":)";
  append_json_string(list, model_.name);
  list += R"(,"last_id":)";
  append_json_string(list, last);
  return list + '}';
}

void ApiServer::answer_model(std::string_view name,
                             const std::shared_ptr<Exchange>& exchange) const {
  const ApiStatus known = check_model_name(name, defaults_);
  if (!known) return exchange->fail(known.error());
  exchange->respond(json_response(200, model_json(name, exchange->is_anthropic())));
}

PageFacts ApiServer::page_facts() const {
  PageFacts facts;
  facts.max_model_len = model_.engine->max_context();
  facts.has_tls = !options_.http.certificate_file.empty();
  if (model_.fast_name.empty()) {
    facts.models = {{model_.name, std::nullopt, model_.weights}};
  } else {
    facts.models = {{model_.name, access::Tier::kStandard, model_.standard_weights},
                    {model_.fast_name, access::Tier::kFast, model_.weights}};
  }
  return facts;
}

void ApiServer::stored_response(Route route, const net::HttpRequest& request,
                                const std::shared_ptr<Exchange>& exchange) {
  std::string id = request.path().substr(kResponsesPath.size() + 1);
  if (route == Route::kInputItems) id.resize(id.size() - kInputItemsPath.size());
  ResponseStore& store = store_of(*exchange);
  auto body = route == Route::kInputItems  ? list_input_items(store, id, request.target)
              : request.method == "DELETE" ? delete_response(store, id)
                                           : read_response(store, id, request.target);
  if (!body) return exchange->fail(body.error());
  respond_json(*std::move(body), exchange);
}

}  // namespace ultraspeed::server
