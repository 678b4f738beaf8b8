// A model in an arithmetic mode that gives all logits of a text, computed on the calling thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/loaded_model.h"
#include "base/result.h"
#include "engine/engine.h"
#include "program/arithmetic.h"

namespace ultraspeed::apps {

struct Mode {
  program::Activations activations = program::Activations::kF32;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
};

class LogitsExecutor;

class ModeModel {
 public:
  static Result<ModeModel> open(const LoadedModel& model, const Mode& mode, uint32_t max_tokens);

  uint32_t width() const;  // tokens of a step
  uint32_t vocab_size() const { return vocab_size_; }

  // Logits f32 [tokens, vocab_size] after each of a text's tokens from `position` on, up to
  // width() of them; valid until the next call. Those before must have been given in the calls
  // before.
  Result<std::span<const float>> logits(std::span<const int32_t> tokens, uint32_t position);

 private:
  ModeModel() = default;

  LogitsExecutor* executor_ = nullptr;  // the engine's
  std::unique_ptr<engine::Engine> engine_;
  std::vector<uint32_t> pages_;
  uint32_t vocab_size_ = 0;
};

}  // namespace ultraspeed::apps
