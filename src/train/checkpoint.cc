#include "train/checkpoint.h"

#include <cstring>

#include "base/check.h"
#include "base/mapped_file.h"
#include "train/output_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kMagic = 0x0a31504b43545355u;  // "USTCKP1\n"
constexpr uint32_t kMaxTextBytes = 1 << 16;

void append_text(std::string* record, const std::string& text) {
  append(record, static_cast<uint32_t>(text.size()));
  *record += text;
}

class Reader {
 public:
  Reader(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  template <class T>
  Result<T> number() {
    if (sizeof(T) > bytes_.size()) return fail("ends too early");
    const T value = number_at<T>(bytes_, 0);
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }

  Result<std::span<const std::byte>> take(uint64_t count) {
    if (count > bytes_.size()) return fail("ends too early");
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

  Result<std::string> text() {
    US_ASSIGN(const auto size, number<uint32_t>());
    if (size > kMaxTextBytes) return fail("has a text that is too long");
    US_ASSIGN(const auto bytes, take(size));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  bool is_at_end() const { return bytes_.empty(); }

  tl::unexpected<Error> fail(const std::string& what) const {
    return make_error(ErrorCode::kInvalidData, "{}: the checkpoint {}", path_, what);
  }

 private:
  const std::string& path_;
  std::span<const std::byte> bytes_;
};

Status read_tensor(const std::string& path, Reader* reader, const NamedTensor& tensor) {
  US_ASSIGN(const std::string name, reader->text());
  US_ASSIGN(const auto count, reader->number<uint64_t>());
  if (name != tensor.name || count != static_cast<uint64_t>(tensor.value.numel())) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: has '{}' of {} numbers where this run has '{}' of {}", path, name, count,
                      tensor.name, tensor.value.numel());
  }
  US_ASSIGN(const auto bytes, reader->take(count * sizeof(float)));
  torch::Tensor values = torch::empty(tensor.value.sizes(), torch::kFloat32);
  std::memcpy(values.data_ptr<float>(), bytes.data(), bytes.size());
  const torch::NoGradGuard no_grad;
  torch::Tensor target = tensor.value;
  target.copy_(values);
  return {};
}

// Checked by its checksum.
Result<std::vector<std::byte>> read_whole(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::vector<std::byte> bytes(file.size_bytes());
  US_TRY(file.read(0, bytes));
  const std::span<const std::byte> all = bytes;
  if (all.size() < 2 * sizeof(uint64_t) || number_at<uint64_t>(all, 0) != kMagic ||
      number_at<uint64_t>(all, all.size() - 8) != checksum(all.first(all.size() - 8))) {
    return make_error(ErrorCode::kInvalidData, "{}: is no checkpoint, or a damaged one", path);
  }
  return bytes;
}

// Between magic and checksum.
std::span<const std::byte> content_of(std::span<const std::byte> all) {
  return all.subspan(8, all.size() - 16);
}

Result<CheckpointState> read_state(Reader* reader) {
  CheckpointState state;
  US_ASSIGN(state.run, reader->text());
  US_ASSIGN(state.num_steps, reader->number<uint64_t>());
  US_ASSIGN(state.num_updates, reader->number<uint64_t>());
  US_ASSIGN(state.seconds, reader->number<double>());
  return state;
}

}  // namespace

Status write_checkpoint(const std::string& path, const CheckpointState& state,
                        const std::vector<NamedTensor>& tensors) {
  std::string record;
  append(&record, kMagic);
  append_text(&record, state.run);
  append(&record, state.num_steps);
  append(&record, state.num_updates);
  append(&record, state.seconds);
  append(&record, static_cast<uint32_t>(tensors.size()));
  for (const NamedTensor& tensor : tensors) {
    US_CHECK(tensor.value.scalar_type() == torch::kFloat32, "{} is not f32", tensor.name);
    const torch::Tensor values = tensor.value.detach().to(torch::kCPU).contiguous();
    if (!values.isfinite().all().item<bool>()) {
      return make_error(ErrorCode::kInternal,
                        "{}: not written: '{}' has numbers that are not finite; the checkpoint "
                        "before it stays: go on from there with a smaller learning rate",
                        path, tensor.name);
    }
    append_text(&record, tensor.name);
    append(&record, static_cast<uint64_t>(values.numel()));
    record.append(reinterpret_cast<const char*>(values.data_ptr<float>()),
                  static_cast<size_t>(values.numel()) * sizeof(float));
  }
  append(&record, checksum(bytes_of(record)));
  return replace_file(path, {record});
}

Result<CheckpointState> read_checkpoint(const std::string& path, const std::string& run,
                                        const std::vector<NamedTensor>& tensors) {
  US_ASSIGN(const std::vector<std::byte> bytes, read_whole(path));
  Reader reader(path, content_of(bytes));
  US_ASSIGN(const CheckpointState state, read_state(&reader));
  if (state.run != run) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: is of another run ({}); this one has ({}). Give another folder, or the "
                      "same flags",
                      path, state.run, run);
  }
  US_ASSIGN(const auto count, reader.number<uint32_t>());
  if (count != tensors.size()) return reader.fail("has another number of tensors");
  for (const NamedTensor& tensor : tensors) US_TRY(read_tensor(path, &reader, tensor));
  if (!reader.is_at_end()) return reader.fail("has bytes behind its last tensor");
  return state;
}

Result<CheckpointStart> read_checkpoint_start(const std::string& path) {
  US_ASSIGN(const std::vector<std::byte> bytes, read_whole(path));
  Reader reader(path, content_of(bytes));
  US_ASSIGN(const CheckpointState state, read_state(&reader));
  return CheckpointStart{state.run, state.num_steps,
                         number_at<uint64_t>(bytes, bytes.size() - sizeof(uint64_t))};
}

Status read_first_tensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  US_ASSIGN(const std::vector<std::byte> bytes, read_whole(path));
  Reader reader(path, content_of(bytes));
  US_TRY(read_state(&reader));
  US_ASSIGN(const auto count, reader.number<uint32_t>());
  if (count < tensors.size()) return reader.fail("has too few tensors");
  for (const NamedTensor& tensor : tensors) US_TRY(read_tensor(path, &reader, tensor));
  return {};
}

}  // namespace ultraspeed::train
