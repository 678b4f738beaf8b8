#include "server/call_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "server/exchange.h"
#include "server/json_fields.h"
#include "server/tag_matcher.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {
namespace {

constexpr size_t kOverheadBytes = 256;  // of an entry beside its strings

// A call in a request, in whose place the template is given a call of a function of this name.
struct MarkedCall {
  std::string mark;
  WrittenCall written;
  bool follows_text = false;  // content or another call of the same message
};

bool is_blank(const Json& content) {
  if (!content.is_string()) return content.empty();
  const auto& text = content.get_ref<const std::string&>();
  return std::all_of(text.begin(), text.end(), is_space);
}

bool is_same(const Json& arguments, const std::string& written) {
  if (arguments.is_string() && arguments == written) return true;
  const auto known = parse_json_object(written);
  if (!known) return false;
  if (!arguments.is_string()) return arguments == *known;
  const auto given = parse_json_object(arguments.get_ref<const std::string&>());
  return given && *given == *known;
}

// The remembered call that this one is, unchanged.
std::optional<WrittenCall> find_written(const Json& call, CallMemory& memory) {
  if (!call.is_object()) return std::nullopt;
  const auto id = call.find("id");
  const auto function = call.find("function");
  if (id == call.end() || !id->is_string()) return std::nullopt;
  if (function == call.end() || !function->is_object()) return std::nullopt;
  const auto name = function->find("name");
  const auto arguments = function->find("arguments");
  if (name == function->end() || arguments == function->end()) return std::nullopt;
  auto written = memory.find(id->get<std::string>());
  const bool is_unchanged =
      written && *name == written->name && is_same(*arguments, written->arguments);
  return is_unchanged ? std::move(written) : std::nullopt;
}

bool has_calls(const Json& messages) {
  return std::ranges::any_of(messages,
                             [](const Json& message) { return message.contains("tool_calls"); });
}

std::vector<MarkedCall> mark_calls(CallMemory& memory, Json* messages) {
  std::vector<MarkedCall> marked;
  const std::string nonce = random_id();
  for (Json& message : *messages) {
    const auto calls = message.find("tool_calls");
    if (calls == message.end() || !calls->is_array()) continue;
    const auto content = message.find("content");
    bool follows_text = content != message.end() && !is_blank(*content);
    for (Json& call : *calls) {
      if (auto written = find_written(call, memory)) {
        const std::string mark = fmt::format("call_{}_{}", nonce, marked.size());
        call["function"]["name"] = mark;
        call["function"]["arguments"] = Json::object();
        marked.push_back({mark, *std::move(written), follows_text});
      }
      follows_text = true;
    }
  }
  return marked;
}

// Where a marked call stands in the prompt. White space before it is the template's unless it
// belongs to the begin of the turn.
std::optional<text::ByteRange> find_marked(const std::string& text, const MarkedCall& call,
                                           size_t from) {
  const size_t mark = text.find(call.mark, from);
  if (mark == std::string::npos) return std::nullopt;
  size_t begin = text.rfind(kToolCallOpen, mark);
  const size_t end = text.find(kToolCallClose, mark);
  if (begin == std::string::npos || begin < from || end == std::string::npos) return std::nullopt;
  size_t spaces = begin;
  while (spaces > from && is_space(text[spaces - 1])) --spaces;
  const bool follows_reasoning = std::string_view(text).substr(0, spaces).ends_with("</think>");
  if (call.follows_text || follows_reasoning) begin = spaces;
  return text::ByteRange{begin, end + kToolCallClose.size()};
}

// A text in the making, with the ranges that are not to be read for tokens.
class PromptWriter {
 public:
  explicit PromptWriter(const text::RenderedPrompt& from) : from_(from) {}

  void copy(size_t begin, size_t end) {
    const auto& ranges = from_.input_ranges;
    while (next_range_ < ranges.size() && ranges[next_range_].end <= begin) ++next_range_;
    for (size_t i = next_range_; i < ranges.size() && ranges[i].begin < end; ++i) {
      add_range(std::max(ranges[i].begin, begin) - begin, std::min(ranges[i].end, end) - begin);
    }
    result_.text += std::string_view(from_.text).substr(begin, end - begin);
  }

  // Between its markers a call is the model's, who must not forge turns either.
  void add_call(const std::string& text) {
    const size_t begin = text.find(kToolCallOpen) + kToolCallOpen.size();
    add_range(begin, text.size() - kToolCallClose.size());
    result_.text += text;
  }

  text::RenderedPrompt take() { return std::move(result_); }

 private:
  // Relative to the end of what is written.
  void add_range(size_t begin, size_t end) {
    if (begin == end) return;
    const size_t offset = result_.text.size();
    result_.input_ranges.push_back({offset + begin, offset + end});
  }

  const text::RenderedPrompt& from_;
  size_t next_range_ = 0;
  text::RenderedPrompt result_;
};

// Nothing, if the template does not show each call once and in order.
std::optional<text::RenderedPrompt> put_back(const text::RenderedPrompt& rendered,
                                             const std::vector<MarkedCall>& calls) {
  PromptWriter writer(rendered);
  size_t done = 0;
  for (const MarkedCall& call : calls) {
    const auto place = find_marked(rendered.text, call, done);
    if (!place) return std::nullopt;
    writer.copy(done, place->begin);
    writer.add_call(call.written.text);
    done = place->end;
    if (rendered.text.find(call.mark, done) != std::string::npos) return std::nullopt;
  }
  writer.copy(done, rendered.text.size());
  return writer.take();
}

}  // namespace

size_t CallMemory::bytes_of(const WrittenCall& call) {
  return call.id.size() + call.name.size() + call.arguments.size() + call.text.size() +
         kOverheadBytes;
}

void CallMemory::remember(WrittenCall call) {
  const std::lock_guard lock(mutex_);
  if (by_id_.contains(call.id) || bytes_of(call) > max_bytes_) return;
  calls_.push_front(std::move(call));
  by_id_.emplace(calls_.front().id, calls_.begin());
  bytes_ += bytes_of(calls_.front());
  while (bytes_ > max_bytes_) {
    bytes_ -= bytes_of(calls_.back());
    by_id_.erase(calls_.back().id);
    calls_.pop_back();
  }
}

std::optional<WrittenCall> CallMemory::find(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return std::nullopt;
  calls_.splice(calls_.begin(), calls_, found->second);
  return *found->second;
}

Result<text::RenderedPrompt> render_with_calls(const text::ChatTemplate& chat_template,
                                               text::ChatRequest request, CallMemory& memory) {
  if (has_calls(request.messages)) {
    text::ChatRequest marked = request;
    const std::vector<MarkedCall> calls = mark_calls(memory, &marked.messages);
    if (!calls.empty()) {
      const auto rendered = chat_template.render(std::move(marked));
      if (rendered) {
        if (auto prompt = put_back(*rendered, calls)) return *std::move(prompt);
      }
    }
  }
  return chat_template.render(std::move(request));
}

}  // namespace ultraspeed::server
