// Tool calls as the model wrote them, for the turns after: a client sends a call back as JSON, and
// the chat template writes it in its own way, which is seldom the model's. Then the tokens differ,
// and all that a prefix cache knows of the conversation behind them is lost. So the server
// remembers the text of each call by its id and puts it into the prompt where the client sends the
// call back unchanged.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "text/chat_template.h"

namespace ultraspeed::server {

struct WrittenCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text, as the client got it
  // As the model wrote it: white space, then from kToolCallOpen to kToolCallClose.
  std::string text;
};

// The calls that were used last. Any thread.
class CallMemory {
 public:
  explicit CallMemory(size_t max_bytes) : max_bytes_(max_bytes) {}

  void remember(WrittenCall call);
  std::optional<WrittenCall> find(const std::string& id);

 private:
  static size_t bytes_of(const WrittenCall& call);

  const size_t max_bytes_;
  std::mutex mutex_;
  std::list<WrittenCall> calls_;  // the one used last comes first
  std::unordered_map<std::string_view, std::list<WrittenCall>::iterator> by_id_;
  size_t bytes_ = 0;
};

// chat_template.render(request), with the remembered calls as they were written.
Result<text::RenderedPrompt> render_with_calls(const text::ChatTemplate& chat_template,
                                               text::ChatRequest request, CallMemory& memory);

}  // namespace ultraspeed::server
