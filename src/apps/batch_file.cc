#include "apps/batch_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "apps/files.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kPaths = {"/v1/chat/completions", "/v1/completions",
                                                    "/v1/responses", "/v1/messages"};
constexpr std::string_view kAnswerBegin = R"({"id":"batch_req_)";
// What parse_json() refuses; its own words can have a whole line in them.
constexpr std::string_view kNoJson = "not JSON, or nested more than 64 deep";

// Calls with each line, without its end, and its number; the last one may have no end.
template <class Function>
void for_each_line(std::string_view contents, Function function) {
  size_t number = 0;
  while (!contents.empty()) {
    const size_t end = std::min(contents.find('\n'), contents.size());
    function(++number, contents.substr(0, end));
    contents.remove_prefix(std::min(end + 1, contents.size()));
  }
}

std::string string_field(const ordered_json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

// What is wrong with a request; empty: nothing.
std::string fault_of(const ordered_json& request) {
  if (!request.is_object()) return "not a JSON object";
  if (string_field(request, "custom_id").empty()) return "'custom_id' must be a string";
  if (string_field(request, "method") != "POST") return "'method' must be \"POST\"";
  const std::string path = string_field(request, "url");
  if (std::ranges::find(kPaths, path) == kPaths.end()) {
    std::string known;
    for (const std::string_view one : kPaths) known.append(known.empty() ? "" : ", ").append(one);
    return fmt::format("'url' is '{}'; it must be one of {}", path, known);
  }
  const auto body = request.find("body");
  if (body == request.end() || !body->is_object()) return "'body' must be an object";
  if (body->value("stream", ordered_json()) == true) return "'body.stream' cannot be true";
  return {};
}

bool has_object(const ordered_json& line, const char* name) {
  const auto field = line.find(name);
  return field != line.end() && field->is_object();
}

// Requests and other objects have a custom_id too.
bool is_answer(const ordered_json& line) {
  return has_object(line, "response") || has_object(line, "error");
}

bool has_status_200(const ordered_json& answer) {
  return has_object(answer, "response") &&
         answer["response"].value("status_code", ordered_json()) == 200;
}

Error file_error(const std::string& path, std::string_view what) {
  return {ErrorCode::kIo,
          fmt::format("{}: cannot be {}: {}", path, what, std::generic_category().message(errno))};
}

}  // namespace

std::vector<BatchRequest> parse_batch(std::string_view contents,
                                      const std::function<void(size_t line, std::string)>& report) {
  std::vector<BatchRequest> requests;
  std::set<std::string> ids;
  for_each_line(contents, [&](size_t line, std::string_view text) {
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const auto json = parse_json(text, "");
    if (!json) return report(line, std::string(kNoJson));
    std::string fault = fault_of(*json);
    if (!fault.empty()) return report(line, std::move(fault));
    std::string id = string_field(*json, "custom_id");
    if (!ids.insert(id).second) {
      return report(line, fmt::format("the custom_id '{}' was there before", id));
    }
    requests.push_back({line, std::move(id), string_field(*json, "url"), text});
  });
  return requests;
}

std::string batch_body(const BatchRequest& request) {
  return ordered_json::parse(request.text)["body"].dump();
}

BatchAnswer batch_answer(const BatchRequest& request, unsigned status,
                         const std::string& request_id, const std::string& body) {
  auto answer = parse_json(body, "");
  ordered_json line = {{"id", fmt::format("batch_req_{}", request.line)},
                       {"custom_id", request.custom_id},
                       {"response", nullptr},
                       {"error", nullptr}};
  if (!answer) {
    line["error"] = {{"code", "invalid_response"},
                     {"message", fmt::format("HTTP {}, but the answer is {}", status, kNoJson)}};
  } else {
    line["response"] = {
        {"status_code", status}, {"request_id", request_id}, {"body", std::move(*answer)}};
  }
  const auto replace = ordered_json::error_handler_t::replace;
  return {line.dump(-1, ' ', false, replace) + "\n", has_status_200(line)};
}

Status check_batch_files(const std::string& input, const std::string& output) {
  if (output == "-") {
    return make_error(ErrorCode::kInvalidArgument,
                      "OUT cannot be standard output: the answers that it has are read, so it must "
                      "be a file");
  }
  struct stat out = {};
  if (stat(output.c_str(), &out) != 0) return {};  // none yet
  if (!S_ISREG(out.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: OUT must be a file, since the answers that it has are read", output);
  }
  struct stat in = {};
  const bool has_input = (input == "-" ? fstat(STDIN_FILENO, &in) : stat(input.c_str(), &in)) == 0;
  if (!has_input || in.st_dev != out.st_dev || in.st_ino != out.st_ino) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: IN and OUT are the same file; expected another one for the answers",
                    output);
}

BatchOutput::BatchOutput(BatchOutput&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      size_bytes_(other.size_bytes_),
      has_succeeded_(std::move(other.has_succeeded_)) {}

BatchOutput::~BatchOutput() {
  if (file_ >= 0) ::close(file_);
}

Result<BatchOutput> BatchOutput::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return tl::unexpected(file_error(path, "opened"));
  BatchOutput output(path, file);
  US_TRY(output.lock());
  US_TRY(output.read_answers());
  return output;
}

Status BatchOutput::lock() {
  if (flock(file_, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return tl::unexpected(file_error(path_, "locked"));
  return make_error(ErrorCode::kIo,
                    "{}: another batch is writing to it; wait for its end, or name another OUT",
                    path_);
}

Status BatchOutput::read_answers() {
  US_ASSIGN(const std::string contents, read_file(path_));
  size_bytes_ = contents.rfind('\n') + 1;  // 0: there is none
  const std::string_view rest = std::string_view(contents).substr(size_bytes_);
  if (!rest.starts_with(kAnswerBegin.substr(0, rest.size()))) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: its last line has no end and is not the begin of a batch's answer; end "
                      "it with a line break to keep it, or name another OUT",
                      path_);
  }
  for_each_line(std::string_view(contents).substr(0, size_bytes_),
                [&](size_t, std::string_view text) {
                  const ordered_json json = ordered_json::parse(text, nullptr, false);
                  if (!json.is_object() || !is_answer(json)) return;
                  const std::string id = string_field(json, "custom_id");
                  if (!id.empty()) has_succeeded_[id] = has_status_200(json);
                });
  const auto end = static_cast<off_t>(size_bytes_);
  if (ftruncate(file_, end) == 0 && lseek(file_, end, SEEK_SET) == end) return {};
  return tl::unexpected(file_error(path_, "cut to whole lines"));
}

Status BatchOutput::add(std::string_view line) {
  const Status status = write_all(file_, line);
  if (status) {
    size_bytes_ += line.size();
    return {};
  }
  const auto end = static_cast<off_t>(size_bytes_);
  if (ftruncate(file_, end) == 0) lseek(file_, end, SEEK_SET);
  return make_error(ErrorCode::kIo, "{}: {}", path_, status.error().message);
}

}  // namespace ultraspeed::apps
