#include "quantize/quantizer.h"

#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "quantize/family.h"
#include "quantize/journal.h"
#include "quantize/shard_plan.h"
#include "quantize/shard_writer.h"
#include "quantize/side_files.h"

namespace ultraspeed::quantize {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr uint32_t kFormatVersion = 1;  // of journals: another program may write other bytes
constexpr uint64_t kMinMemoryBytes = 1'000'000;
const std::string kExpertInputsName = "expert_inputs";

Status check_options(const QuantizeOptions& options) {
  if (options.memory_bytes < kMinMemoryBytes) {
    return make_error(ErrorCode::kInvalidArgument, "--memory {}: expected at least {} bytes",
                      options.memory_bytes, kMinMemoryBytes);
  }
  if (const auto& calibration = options.calibration) {
    const double damping = calibration->damping;
    if (!(damping >= kMinDamping && damping <= kMaxDamping)) {
      return make_error(ErrorCode::kInvalidArgument, "--damping {}: expected {} to {}", damping,
                        kMinDamping, kMaxDamping);
    }
  }
  if (options.shard_bytes > 0 && options.num_threads > 0) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--shard-bytes {} and --threads {}: expected both above 0", options.shard_bytes,
                    options.num_threads);
}

// The target may not be the source, and not inside of it.
Status check_folders(const std::string& source, const std::string& target) {
  std::error_code error;
  const fs::path from = fs::weakly_canonical(source, error);
  fs::path to = fs::weakly_canonical(target, error);
  if (error) return make_error(ErrorCode::kIo, "{}: {}", target, error.message());
  if (from == to) {
    return make_error(ErrorCode::kInvalidArgument, "{}: is the source; expected another folder",
                      target);
  }
  for (; to != to.parent_path(); to = to.parent_path()) {
    if (to.parent_path() != from) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: lies in the source {}; expected a folder outside of it", target, source);
  }
  return {};
}

ordered_json flags_json(const QuantizeOptions& options) {
  const LinearOptions& linears = options.linears;
  ordered_json flags = {{"format", kFormatVersion},
                        {"scale_rule", scale_rule_name(options.scale_rule)},
                        {"linears", linear_form_name(linears.linears)},
                        {"output_projections", linear_form_name(linears.output_projections)},
                        {"embedding", linear_form_name(linears.embedding)},
                        {"head", linear_form_name(linears.head)},
                        {"shard_bytes", options.shard_bytes}};
  if (const auto& calibration = options.calibration) {
    flags["calibration"] = {{"method", "gptq"},
                            {"text", calibration->text},
                            {"num_tokens", calibration->shape.num_tokens},
                            {"checksum", calibration->text_checksum},
                            {"damping", calibration->damping}};
  }
  return flags;
}

// The memory that is left for what is converted beside what calibration takes.
Result<uint64_t> band_memory(const QuantizeOptions& options,
                             const std::vector<Conversion>& conversions) {
  if (!options.calibration) return options.memory_bytes;
  const uint64_t taken = Calibration::memory_bytes(options.calibration->shape, conversions);
  if (options.memory_bytes >= taken + kMinMemoryBytes) return options.memory_bytes - taken;
  return make_error(ErrorCode::kOutOfMemory,
                    "--memory {}: calibration alone takes {}, and what is converted at least {}",
                    options.memory_bytes, format_bytes(static_cast<double>(taken)),
                    format_bytes(static_cast<double>(kMinMemoryBytes)));
}

// Everything that changes a byte of the result. Source files by name, size and time: a journal must
// not take another model's shards for this one's.
Result<std::string> request_json(const QuantizeOptions& options,
                                 const model::Checkpoint& checkpoint, const SideFiles& side_files) {
  ordered_json files = ordered_json::array();
  const auto add = [&](const std::string& name) -> Status {
    const std::string path = checkpoint.directory() + "/" + name;
    std::error_code size_error, time_error;
    const auto size = fs::file_size(path, size_error);
    const auto time = fs::last_write_time(path, time_error).time_since_epoch().count();
    if (size_error || time_error) {
      return make_error(ErrorCode::kIo, "{}: {}", path,
                        (size_error ? size_error : time_error).message());
    }
    files.push_back({name, size, time});
    return {};
  };
  US_TRY(add("config.json"));
  for (const model::SafetensorsFile& file : checkpoint.files()) {
    US_TRY(add(fs::path(file.path()).filename().string()));
  }
  for (const std::string& name : side_files.copied) US_TRY(add(name));
  ordered_json json = flags_json(options);
  json["source_files"] = std::move(files);
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Counts bytes for a progress callback, from any thread.
class ByteCount {
 public:
  ByteCount(const std::function<void(uint64_t, uint64_t)>& report, uint64_t total)
      : report_(report), total_(total) {}

  void add(uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    done_ += bytes;
    if (report_) report_(done_, total_);
  }

 private:
  const std::function<void(uint64_t, uint64_t)>& report_;
  const uint64_t total_;
  std::mutex mutex_;
  uint64_t done_ = 0;
};

class Run {
 public:
  Run(const QuantizeOptions& options, const OutputFolder& folder, const Journal& journal,
      const ConversionPlan& plan, uint64_t memory_bytes)
      : options_(options),
        folder_(folder),
        journal_(journal),
        plan_(plan),
        memory_bytes_(memory_bytes),
        shards_(plan_shards(plan.conversions, options.shard_bytes)) {}

  const std::vector<PlannedShard>& shards() const { return shards_; }
  const std::vector<TensorRecord>& records() const { return records_; }
  uint64_t num_resumed() const { return num_resumed_; }

  Status write_all() {
    US_ASSIGN(const auto finished, find_finished());
    uint64_t total = 0;  // to be read
    uint64_t to_write = 0;
    for (size_t i = 0; i < shards_.size(); ++i) {
      total += shards_[i].bytes;
      if (finished[i]) continue;
      total += source_bytes(shards_[i]);
      to_write += shards_[i].bytes;
    }
    const bool is_calibrated = options_.calibration && to_write > 0;
    const bool is_to_be_read = is_calibrated && !has_inputs();
    const uint64_t own_bytes = is_to_be_read ? options_.calibration->shape.file_bytes() : 0;
    US_TRY(folder_.check_space(to_write + own_bytes));
    std::optional<Calibration> calibration;
    if (is_calibrated) {
      US_ASSIGN(calibration, calibrate());
    }
    ByteCount count(options_.progress, total);
    const ShardOptions shard_options = {options_.scale_rule, options_.num_threads, memory_bytes_,
                                        [&count](uint64_t bytes) { count.add(bytes); },
                                        calibration ? &*calibration : nullptr};
    for (size_t i = 0; i < shards_.size(); ++i) {
      if (finished[i]) {
        US_TRY(recheck(shards_[i], *finished[i], shard_options));
        ++num_resumed_;
        records_.insert(records_.end(), finished[i]->begin(), finished[i]->end());
        continue;
      }
      US_ASSIGN(const auto records, write(shards_[i], shard_options));
      records_.insert(records_.end(), records.begin(), records.end());
    }
    return {};
  }

 private:
  using Finished = std::vector<std::optional<std::vector<TensorRecord>>>;

  Result<Finished> find_finished() const {
    Finished finished;
    for (const PlannedShard& shard : shards_) {
      US_ASSIGN(finished.emplace_back(),
                journal_.finished(shard.file, shard.conversion_end - shard.conversion_begin));
    }
    return finished;
  }

  bool has_inputs() const {
    std::error_code error;
    return fs::exists(folder_.path_of(journal_.own_name(kExpertInputsName)), error);
  }

  // What experts read in the text, now or before an interruption of this run: a journal that is
  // not resumed begins empty.
  Result<Calibration> calibrate() const {
    const CalibrationOptions& options = *options_.calibration;
    const std::string name = journal_.own_name(kExpertInputsName);
    const std::string path = folder_.path_of(name);
    if (!has_inputs()) {
      const std::string partial = journal_.partial_name(kExpertInputsName);
      US_ASSIGN(auto writer, ExpertInputsWriter::create(folder_, partial, options.shape));
      US_TRY(options.read_text(&writer));
      US_TRY(writer.finish());
      US_TRY(folder_.rename(partial, name));
    }
    US_ASSIGN(ExpertInputs inputs, ExpertInputs::open(path, options.shape));
    return Calibration(std::move(inputs), plan_.conversions, options.damping, options_.num_threads);
  }

  uint64_t source_bytes(const PlannedShard& shard) const {
    uint64_t bytes = 0;
    for (uint32_t i = shard.conversion_begin; i < shard.conversion_end; ++i) {
      bytes += plan_.conversions[i].source_bytes();
    }
    return bytes;
  }

  Status recheck(const PlannedShard& shard, const std::vector<TensorRecord>& records,
                 const ShardOptions& options) const {
    const std::string path = folder_.path_of(shard.file);
    const Status status = check_shard(plan_.conversions, shard, path, records, options);
    if (status) return {};
    return make_error(status.error().code, "{}; remove {} and begin again: it is written anew",
                      status.error().message, path);
  }

  Result<std::vector<TensorRecord>> write(const PlannedShard& shard, const ShardOptions& options) {
    const std::string partial = journal_.partial_name(shard.file);
    auto records = write_shard(plan_.conversions, shard, folder_, partial, options);
    Status status;
    if (records) {
      status = check_shard(plan_.conversions, shard, folder_.path_of(partial), *records, options);
    } else {
      status = tl::unexpected(records.error());
    }
    if (status) {
      US_TRY(journal_.finish(shard.file, *records));
      return records;
    }
    (void)folder_.remove(partial);  // the first error is the one to tell
    return tl::unexpected(status.error());
  }

  const QuantizeOptions& options_;
  const OutputFolder& folder_;
  const Journal& journal_;
  const ConversionPlan& plan_;
  const uint64_t memory_bytes_;  // of what is being converted
  const std::vector<PlannedShard> shards_;
  std::vector<TensorRecord> records_;  // of all conversions, in their order
  uint64_t num_resumed_ = 0;
};

}  // namespace

Result<QuantizeResult> quantize(const QuantizeOptions& options, const OutputFolder& folder) {
  US_TRY(check_options(options));
  US_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.source));
  US_TRY(check_folders(options.source, folder.path()));
  US_ASSIGN(const Family family, read_family(checkpoint));
  US_ASSIGN(ConversionPlan plan, plan_conversions(checkpoint, family, options.linears));
  if (options.calibration) US_TRY(find_inputs(options.calibration->shape, &plan.conversions));
  US_ASSIGN(const uint64_t memory_bytes, band_memory(options, plan.conversions));
  US_ASSIGN(const std::string config, quantized_config(family, plan.form));
  US_ASSIGN(const SideFiles side_files, list_side_files(checkpoint));
  US_ASSIGN(const std::string request, request_json(options, checkpoint, side_files));
  US_ASSIGN(const Journal journal, Journal::open(folder, request));
  Run run(options, folder, journal, plan, memory_bytes);
  if (const Status written = run.write_all(); !written) {
    journal.leave();
    return tl::unexpected(written.error());
  }
  US_TRY(copy_side_files(options.source, side_files, folder));
  const ReportHeader header = {flags_json(options).dump(), side_files.not_copied};
  US_TRY(folder.write_text(kReportName, report_json(header, plan.conversions, run.records())));
  US_TRY(folder.write_text("config.json", config));
  US_TRY(folder.write_text("model.safetensors.index.json", index_json(plan, run.shards())));
  US_TRY(journal.close());
  return QuantizeResult{.kinds = summarize(plan.conversions, run.records()),
                        .num_files = run.shards().size(),
                        .num_resumed_files = run.num_resumed(),
                        .not_copied = side_files.not_copied};
}

}  // namespace ultraspeed::quantize
