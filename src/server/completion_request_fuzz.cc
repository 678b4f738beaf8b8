// Fuzzes the parser of POST /v1/completions: any body gives a request that the rest of the server
// may rely on, or an error that can be sent.
#include "server/completion_request.h"

#include <string>
#include <variant>
#include <vector>

#include "server/request_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ultraspeed::server;
  const auto request = parse_completion_request(fuzz_body(data, size), fuzz_defaults());
  if (!request) {
    check_error(request.error());
    return 0;
  }
  const auto& generation = request->generation;
  US_CHECK(generation.stop.size() <= kMaxStopStrings, "too many stop strings");
  for (const std::string& stop : generation.stop) US_CHECK(!stop.empty(), "an empty stop string");
  US_CHECK(generation.params.sampling.num_logprobs <= 20, "too many logprobs");
  US_CHECK(!request->prompts.empty(), "no prompt");
  for (const auto& prompt : request->prompts) {
    const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
    if (ids == nullptr) continue;
    for (const int32_t id : *ids) US_CHECK(id >= 0 && id < 100, "token id {}", id);
  }
  return 0;
}
