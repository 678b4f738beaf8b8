#include "engine/host_drafter.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/philox.h"
#include "engine/penalties.h"
#include "engine/suffix_drafter.h"

namespace ultraspeed::engine {
namespace {

class NoDrafter final : public HostDrafter {
 public:
  void propose(std::span<const int32_t> /*tokens*/, uint32_t /*limit*/,
               std::vector<int32_t>* /*drafts*/) override {}
};

// Ids that are as good as never right.
class RandomDrafter final : public HostDrafter {
 public:
  RandomDrafter(uint64_t seed, uint32_t vocab_size) : seed_(seed), vocab_size_(vocab_size) {}

  void propose(std::span<const int32_t> tokens, uint32_t limit,
               std::vector<int32_t>* drafts) override {
    for (uint32_t i = 0; i < limit; ++i) {
      const uint32_t bits = random_bits(seed_, tokens.size(), i);
      drafts->push_back(static_cast<int32_t>(bits % vocab_size_));
    }
  }

 private:
  uint64_t seed_;
  uint32_t vocab_size_;
};

// Knows the output: tokens_per_cycle - 1 right drafts, then a wrong one.
class ReplayDrafter final : public HostDrafter {
 public:
  ReplayDrafter(std::span<const int32_t> output, uint32_t prompt_size, uint32_t tokens_per_cycle,
                uint32_t vocab_size)
      : output_(output.begin(), output.end()),
        prompt_size_(prompt_size),
        tokens_per_cycle_(tokens_per_cycle),
        vocab_size_(vocab_size) {}

  void propose(std::span<const int32_t> tokens, uint32_t limit,
               std::vector<int32_t>* drafts) override {
    const size_t begin = std::min(tokens.size() - prompt_size_, output_.size());
    const size_t count = std::min<size_t>({limit, tokens_per_cycle_, output_.size() - begin});
    const auto first = output_.begin() + static_cast<ptrdiff_t>(begin);
    drafts->insert(drafts->end(), first, first + static_cast<ptrdiff_t>(count));
    if (count < tokens_per_cycle_) return;
    drafts->back() =
        static_cast<int32_t>((static_cast<uint32_t>(drafts->back()) + 1) % vocab_size_);
  }

 private:
  std::vector<int32_t> output_;
  uint32_t prompt_size_;
  uint32_t tokens_per_cycle_;
  uint32_t vocab_size_;
};

// Passes on what the last step's MTP heads proposed.
class MtpDrafter final : public HostDrafter {
 public:
  void propose(std::span<const int32_t> /*tokens*/, uint32_t limit,
               std::vector<int32_t>* drafts) override {
    const auto count = static_cast<ptrdiff_t>(std::min<size_t>(limit, proposed_.size()));
    drafts->insert(drafts->end(), proposed_.begin(), proposed_.begin() + count);
  }
  void take_proposed(program::ColumnOutput* output) override {
    proposed_ = std::move(output->proposed_ids);
    logits_ = std::move(output->proposed_logits);
  }
  std::span<const float> logits_of(size_t index) const override {
    return logits_.empty() ? std::span<const float>() : logits_[index];
  }

 private:
  std::vector<int32_t> proposed_;  // empty before a session's first step
  std::vector<std::vector<float>> logits_;
};

}  // namespace

DrafterKind session_drafter(DrafterKind kind, const SamplingParams& params) {
  const bool must_know_drafts =
      Penalties(params, {}).depend_on_output() || params.constraint != nullptr;
  return kind == DrafterKind::kDflash && must_know_drafts ? DrafterKind::kSuffix : kind;
}

std::unique_ptr<HostDrafter> make_host_drafter(const DrafterOptions& options,
                                               const GenerationParams& params, uint32_t prompt_size,
                                               uint32_t vocab_size) {
  switch (session_drafter(options.kind, params.sampling)) {
    case DrafterKind::kNone:
      return std::make_unique<NoDrafter>();
    case DrafterKind::kSuffix:
      return std::make_unique<SuffixDrafter>();
    case DrafterKind::kRandom:
      return std::make_unique<RandomDrafter>(
          seed_for(params.sampling.seed, RandomPurpose::kDraftToken), vocab_size);
    case DrafterKind::kReplay:
      return std::make_unique<ReplayDrafter>(params.expected_output, prompt_size,
                                             options.tokens_per_cycle, vocab_size);
    case DrafterKind::kMtp:
      return std::make_unique<MtpDrafter>();
    case DrafterKind::kDflash:
      return nullptr;
  }
  US_CHECK(false, "drafter kind {}", static_cast<int>(options.kind));
}

}  // namespace ultraspeed::engine
