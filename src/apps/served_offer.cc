#include "apps/served_offer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <utility>

#include "apps/files.h"
#include "apps/model_argument.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

class TestClock final : public access::Clock {
 public:
  explicit TestClock(std::string file) : file_(std::move(file)) {}

  access::UtcTime now() const override {
    int64_t ahead_s = 0;
    std::ifstream(file_) >> ahead_s;
    return system_.now() + std::chrono::seconds(ahead_s);
  }

 private:
  const std::string file_;
  access::SystemClock system_;
};

}  // namespace

Status check_same_vocabulary(const LoadedModel& standard, const LoadedModel& fast) {
  US_ASSIGN(const text::Tokenizer* one, standard.require_tokenizer());
  US_ASSIGN(const text::Tokenizer* other, fast.require_tokenizer());
  bool is_same = one->vocab_size() == other->vocab_size();
  for (size_t id = 0; is_same && id < one->vocab_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    is_same = one->token_bytes(token) == other->token_bytes(token);
  }
  if (is_same) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--standard-model {}: its tokenizer is not that of {}; both modes must be of "
                    "one model",
                    standard.directory(), fast.directory());
}

Result<std::optional<OpenedService>> open_service(const std::string& config_file,
                                                  const std::string& test_clock) {
  if (config_file.empty()) return std::nullopt;
  US_ASSIGN(const std::string text, read_file(config_file));
  US_ASSIGN(const auto config, access::parse_config(config_file, text));
  if (!config) return std::nullopt;
  OpenedService opened;
  if (test_clock.empty()) {
    opened.clock = std::make_unique<access::SystemClock>();
  } else {
    opened.clock = std::make_unique<TestClock>(test_clock);
  }
  US_ASSIGN(opened.service, access::Service::open(*config, *opened.clock, [](const Error& error) {
              spdlog::error("accounts and ledger: {}", error.message);
            }));
  const access::Billing::Recovery& recovery = opened.service->recovery();
  if (recovery.num_settled + recovery.num_known + recovery.num_unreadable > 0) {
    write_to_stderr(fmt::format(
        "settled what an earlier server left: {} requests billed now, {} before, {} unreadable\n",
        recovery.num_settled, recovery.num_known, recovery.num_unreadable));
  }
  return opened;
}

std::string weights_text(const LoadedModel& model) {
  return fmt::format(
      "{}, {}", model_name(model.directory()),
      format_bytes(static_cast<double>(model.checkpoint().contents().backbone.bytes)));
}

Result<std::unique_ptr<StandardModel>> StandardModel::open(const std::string& directory,
                                                           const ModelOptions& options,
                                                           uint32_t max_sessions,
                                                           const LoadedModel& fast) {
  ModelOptions plain = options;
  plain.directory = directory;
  plain.speculation.drafter = DrafterChoice{{.kind = engine::DrafterKind::kNone}, {}};
  plain.speculation.block = 0;
  plain.decode_width = 0;
  US_ASSIGN(LoadedModel model, LoadedModel::open(plain));
  US_TRY(check_same_vocabulary(model, fast));
  auto opened = std::unique_ptr<StandardModel>(new StandardModel(std::move(model)));
  US_ASSIGN(opened->engine_, opened->model_.open_engine(plain, max_sessions));
  return opened;
}

std::string StandardModel::weights() const {
  return weights_text(model_);
}

}  // namespace ultraspeed::apps
