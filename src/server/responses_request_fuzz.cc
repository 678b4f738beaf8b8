// Fuzzes the parser of POST /v1/responses: any body gives a request that the rest of the server may
// rely on, or an error that can be sent; what is stored of it can be read again.
#include "server/request_fuzz.h"
#include "server/responses_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ultraspeed::server;
  ResponseStore store(1 << 20);
  store.put({"resp_1",
             {},
             {{"msg_1", R"({"id":"msg_1","type":"message","role":"user","content":"a"})"}},
             {{"rs_1", R"({"id":"rs_1","type":"reasoning","encrypted_content":"ultraspeed:b"})"}},
             "{}"});
  auto request = parse_responses_request(fuzz_body(data, size), fuzz_defaults(), store);
  if (!request) {
    check_error(request.error());
    return 0;
  }
  US_CHECK(Json::accept(fmt::format("{{{}}}", request->settings.echo)), "{}",
           request->settings.echo);
  for (const auto& [name, tool] : request->settings.tools.by_function) {
    US_CHECK(!name.empty() && !tool.name.empty(), "a tool without a name");
  }
  for (const StoredItem& item : request->settings.input) {
    const auto json = parse_json_object(item.json);
    US_CHECK(json && (*json)["id"] == item.id, "{}", item.json);
  }
  check_chat_request(ApiResult<ChatRequest>(std::move(request->chat)));
  return 0;
}
