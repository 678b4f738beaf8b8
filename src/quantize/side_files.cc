#include "quantize/side_files.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/mapped_file.h"

namespace ultraspeed::quantize {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDrafterFolder = "dflash";
constexpr std::array<std::string_view, 2> kWrittenAnew = {"config.json",
                                                          "model.safetensors.index.json"};
constexpr std::array<std::string_view, 10> kWeightEndings = {
    ".safetensors", ".bin",  ".pt",      ".pth", ".ckpt",
    ".gguf",        ".onnx", ".msgpack", ".h5",  ".index.json"};

bool is_weight_file(std::string_view name) {
  return std::any_of(kWeightEndings.begin(), kWeightEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

Status list_drafter(const std::string& folder, SideFiles* files) {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->is_regular_file()) continue;
    files->copied.push_back(fmt::format(
        "{}/{}", kDrafterFolder, fs::path(entry->path()).lexically_relative(folder).string()));
  }
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot list: {}", folder, error.message());
}

Status copy_file(const std::string& source, const std::string& name, const OutputFolder& folder) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  US_ASSIGN(const MappedFile from, MappedFile::open(source + "/" + name));
  US_ASSIGN(const OutputFile to, folder.create(name, from.size_bytes()));
  std::vector<std::byte> piece;
  for (uint64_t offset = 0; offset < from.size_bytes(); offset += kPieceBytes) {
    piece.resize(std::min(kPieceBytes, from.size_bytes() - offset));
    US_TRY(from.read(offset, piece));
    from.forget(offset, piece.size());
    US_TRY(folder.write_at(to, offset, piece));
  }
  return folder.sync(to);
}

}  // namespace

Result<SideFiles> list_side_files(const model::Checkpoint& checkpoint) {
  SideFiles files;
  const std::string& folder = checkpoint.directory();
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::string path = fmt::format("{}/{}", folder, name);
    if (std::find(kWrittenAnew.begin(), kWrittenAnew.end(), name) != kWrittenAnew.end()) continue;
    const auto& weights = checkpoint.files();
    if (std::any_of(weights.begin(), weights.end(),
                    [&](const model::SafetensorsFile& file) { return file.path() == path; })) {
      continue;
    }
    if (entry->is_directory()) {
      if (name == kDrafterFolder) {
        US_TRY(list_drafter(path, &files));
      } else {
        files.not_copied.push_back(name + "/");
      }
    } else if (!entry->is_regular_file() || name.starts_with('.') || is_weight_file(name)) {
      files.not_copied.push_back(name);
    } else {
      files.copied.push_back(name);
    }
  }
  if (error) return make_error(ErrorCode::kIo, "{}: cannot list: {}", folder, error.message());
  std::sort(files.copied.begin(), files.copied.end());
  std::sort(files.not_copied.begin(), files.not_copied.end());
  return files;
}

Status copy_side_files(const std::string& source, const SideFiles& files,
                       const OutputFolder& folder) {
  for (const std::string& name : files.copied) {
    const std::string parent = fs::path(name).parent_path().string();
    if (!parent.empty()) US_TRY(folder.make_folder(parent));
    US_TRY(copy_file(source, name, folder));
  }
  return {};
}

}  // namespace ultraspeed::quantize
