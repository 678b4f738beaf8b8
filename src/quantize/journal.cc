#include "quantize/journal.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"

namespace ultraspeed::quantize {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFolder = ".quantize";
constexpr std::string_view kRequest = ".quantize/run.json";
constexpr std::string_view kPartial = ".partial";  // behind the name of what is not whole

std::string record_name(const std::string& file) {
  return fmt::format("{}/{}.json", kFolder, file);
}

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Result<ordered_json> read_json(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::string text(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span(text))));
  auto json = ordered_json::parse(text, nullptr, false);
  if (!json.is_discarded()) return json;
  return make_error(ErrorCode::kInvalidData,
                    "{}: no JSON; the record of an interrupted run is damaged: remove the folder "
                    "and begin again",
                    path);
}

// Nothing but the journal may be in a folder whose run has not finished a file.
Status check_empty(const OutputFolder& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path(), error)) {
    if (entry.path().filename() == kFolder) continue;
    return make_error(
        ErrorCode::kInvalidArgument,
        "{}: exists and is no interrupted run of quantize (it holds '{}'); expected a "
        "folder that is new or empty",
        folder.path(), entry.path().filename().string());
  }
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot list: {}", folder.path(), error.message());
}

Status check_request(const OutputFolder& folder, const std::string& request) {
  US_ASSIGN(const ordered_json before, read_json(folder.path_of(kRequest)));
  const ordered_json now = ordered_json::parse(request, nullptr, false);
  if (before == now) return {};
  for (const auto& [key, value] : now.items()) {
    const auto other = before.find(key);
    if (other != before.end() && *other == value) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: holds the beginning of a run with another {} ({}, now {}); expected the "
                      "same source and flags, or another folder",
                      folder.path(), key,
                      other == before.end() ? "none" : other->dump().substr(0, 200),
                      value.dump().substr(0, 200));
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: holds the beginning of another version's run; expected another folder",
                    folder.path());
}

Result<OutputFile> lock_folder(const OutputFolder& folder) {
  const std::string path = folder.path_of(kFolder);
  OutputFile file(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), path);
  if (file.file_descriptor() < 0) {
    return make_error(ErrorCode::kIo, "{}: cannot open: {}", path, std::strerror(errno));
  }
  if (flock(file.file_descriptor(), LOCK_EX | LOCK_NB) == 0) return file;
  return make_error(ErrorCode::kIo, "{}: another process is writing into this folder ({})",
                    folder.path(), std::strerror(errno));
}

// What a run with other flags, or another text, has left of its work.
Status remove_work(const OutputFolder& folder) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder.path_of(std::string(kFolder)), error)) {
    US_TRY(folder.remove(fmt::format("{}/{}", kFolder, entry.path().filename().string())));
  }
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot list: {}", folder.path(), error.message());
}

ordered_json to_json(const TensorRecord& record) {
  return {
      record.outputs[0].value(), record.outputs[1].value(), record.values.value(), record.squares,
      record.square_errors,      record.num_blocks,         record.num_clipped,    record.largest,
      record.largest_error};
}

std::optional<TensorRecord> from_json(const ordered_json& json) {
  if (!json.is_array() || json.size() != 9) return std::nullopt;
  for (size_t i = 0; i < json.size(); ++i) {
    const bool is_sum = i == 3 || i == 4 || i >= 7;
    if (is_sum ? !json[i].is_number() : !json[i].is_number_unsigned()) return std::nullopt;
  }
  TensorRecord record;
  record.outputs = {Digest(json[0].get<uint64_t>()), Digest(json[1].get<uint64_t>())};
  record.values = Digest(json[2].get<uint64_t>());
  record.squares = json[3].get<double>();
  record.square_errors = json[4].get<double>();
  record.num_blocks = json[5].get<uint64_t>();
  record.num_clipped = json[6].get<uint64_t>();
  record.largest = json[7].get<float>();
  record.largest_error = json[8].get<float>();
  return record;
}

}  // namespace

Result<Journal> Journal::open(const OutputFolder& folder, const std::string& request) {
  std::error_code error;
  if (exists(folder.path()) && !std::filesystem::is_directory(folder.path(), error)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: is a file; expected a folder",
                      folder.path());
  }
  bool is_resumed = exists(folder.path_of(kRequest));
  if (is_resumed) {
    const Status same = check_request(folder, request);
    // A run that came to nothing may begin anew with other flags.
    is_resumed = same.has_value();
    if (!same && !check_empty(folder)) return tl::unexpected(same.error());
  } else if (exists(folder.path())) {
    US_TRY(check_empty(folder));
  }
  const bool is_new = !exists(folder.path());
  US_TRY(folder.make_folder(kFolder));
  US_ASSIGN(OutputFile lock, lock_folder(folder));
  if (!is_resumed) {
    US_TRY(remove_work(folder));
    US_TRY(folder.write_text(kRequest, request));
  }
  return Journal(folder, std::move(lock), is_new);
}

std::string Journal::partial_name(const std::string& file) const {
  return fmt::format("{}/{}{}", kFolder, file, kPartial);
}

std::string Journal::own_name(const std::string& file) const {
  return fmt::format("{}/{}", kFolder, file);
}

Result<std::optional<std::vector<TensorRecord>>> Journal::finished(const std::string& file,
                                                                   size_t num_records) const {
  const std::string path = folder_->path_of(record_name(file));
  if (!exists(path) || !exists(folder_->path_of(file))) return std::nullopt;
  US_ASSIGN(const ordered_json json, read_json(path));
  std::vector<TensorRecord> records;
  for (const ordered_json& item : json) {
    const auto record = from_json(item);
    if (record) records.push_back(*record);
  }
  if (json.is_array() && json.size() == num_records && records.size() == num_records) {
    return records;
  }
  return make_error(ErrorCode::kInvalidData,
                    "{}: not the record of {} tensors; remove {} and begin again", path,
                    num_records, folder_->path());
}

Status Journal::finish(const std::string& file, const std::vector<TensorRecord>& records) const {
  ordered_json json = ordered_json::array();
  for (const TensorRecord& record : records) json.push_back(to_json(record));
  US_TRY(folder_->rename(partial_name(file), file));
  return folder_->write_text(record_name(file), json.dump() + "\n");
}

Status Journal::close() const {
  return folder_->remove(kFolder);
}

void Journal::leave() const {
  if (!check_empty(*folder_)) return;
  const std::string own = folder_->path_of(std::string(kFolder));
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(own, error)) {
    const std::string name = fmt::format("{}/{}", kFolder, entry.path().filename().string());
    if (name != kRequest && !name.ends_with(kPartial)) return;  // finished
  }
  // The run's own error is the one to tell.
  if (error || !folder_->remove(kFolder)) return;
  if (has_made_folder_)
    std::filesystem::remove(folder_->path(), error);  // if nothing else is there
}

}  // namespace ultraspeed::quantize
