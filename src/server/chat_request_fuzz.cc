// Fuzzes the parser of POST /v1/chat/completions: any body gives a request that the rest of the
// server may rely on, or an error that can be sent.
#include "server/request_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ultraspeed::server;
  check_chat_request(parse_chat_request(fuzz_body(data, size), fuzz_defaults()));
  return 0;
}
