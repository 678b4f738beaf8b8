// The files of a batch, in OpenAI's format: one request a line, and one answer a line.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::apps {

struct BatchRequest {
  size_t line = 0;  // from 1
  std::string custom_id;
  std::string path;       // "/v1/chat/completions", ...
  std::string_view text;  // of the line, which the file's contents own
};

// The requests of {"custom_id","method":"POST","url","body":{...}} lines, nested 64 deep at most.
// What is wrong with a line goes to `report`, with its number; the others stay. Empty lines are
// nothing.
std::vector<BatchRequest> parse_batch(std::string_view contents,
                                      const std::function<void(size_t line, std::string)>& report);

// The body of a request, as it is sent.
std::string batch_body(const BatchRequest& request);

struct BatchAnswer {
  std::string line;
  bool has_succeeded = false;  // JSON with status 200
};

// {"id","custom_id","response":{"status_code","request_id","body"},"error":null} and a line break.
// An answer that is no JSON, or is nested more than 64 deep, becomes an error.
BatchAnswer batch_answer(const BatchRequest& request, unsigned status,
                         const std::string& request_id, const std::string& body);

// Answers are added to `output`, and those that are there are read: it must be a file (or none
// yet), and not `input`. Errors: kInvalidArgument.
Status check_batch_files(const std::string& input, const std::string& output);

// A file of answers, to which more are added, by one process at a time.
class BatchOutput {
 public:
  // Reads the ids of the answers that are there; the begin of one at the end, which a kill has
  // left, is cut off. Errors: kIo; kInvalidArgument for another begin of a line.
  static Result<BatchOutput> open(const std::string& path);
  BatchOutput(BatchOutput&& other) noexcept;
  BatchOutput& operator=(BatchOutput&&) = delete;
  ~BatchOutput();

  bool has(const std::string& custom_id) const { return has_succeeded_.contains(custom_id); }
  // REQUIRES: has(custom_id).
  bool has_success(const std::string& custom_id) const { return has_succeeded_.at(custom_id); }
  size_t num_answers() const { return has_succeeded_.size(); }
  // All of the line or nothing. Errors: kIo (a full disk).
  Status add(std::string_view line);

 private:
  BatchOutput(std::string path, int file) : path_(std::move(path)), file_(file) {}
  Status lock();
  Status read_answers();

  std::string path_;
  int file_ = -1;
  size_t size_bytes_ = 0;
  std::map<std::string, bool> has_succeeded_;  // by custom_id
};

}  // namespace ultraspeed::apps
