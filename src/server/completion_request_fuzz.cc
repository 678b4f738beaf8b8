// Fuzzes the parser of POST /v1/completions: any body gives a request that the rest of the server
// may rely on, or an error that can be sent.
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/check.h"
#include "server/completion_request.h"

using ultraspeed::server::ApiError;
using ultraspeed::server::Json;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ultraspeed::server::RequestDefaults defaults;
  defaults.model = "m";
  defaults.vocab_size = 100;
  const auto request =
      parse_completion_request({reinterpret_cast<const char*>(data), size}, defaults);
  if (!request) {
    const ApiError& error = request.error();
    US_CHECK(error.status == 400 || error.status == 404, "status {}", error.status);
    US_CHECK(!error.message.empty() && !error.code.empty(), "an error without a sentence");
    US_CHECK(Json::accept(error_json(error)), "the error's JSON is broken");
    return 0;
  }
  const auto& generation = request->generation;
  US_CHECK(generation.stop.size() <= ultraspeed::server::kMaxStopStrings, "too many stop strings");
  for (const std::string& stop : generation.stop) US_CHECK(!stop.empty(), "an empty stop string");
  US_CHECK(generation.params.sampling.num_logprobs <= 20, "too many logprobs");
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&request->prompt)) {
    for (const int32_t id : *ids) US_CHECK(id >= 0 && id < 100, "token id {}", id);
  }
  return 0;
}
