// What the benches that run steps of a known text have in common.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "program/executor.h"

namespace ultraspeed {

inline void exit_on_error(const Status& status) {
  if (status) return;
  fmt::print(stderr, "{}\n", status.error().message);
  std::exit(1);
}

template <class T>
T value_or_exit(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}\n", result.error().message);
  std::exit(1);
}

inline constexpr uint32_t kDecode = 0, kPrefill = 1;  // engine/program_engine.h

// A step of tokens [begin, begin + count) of a text that is alone in the caches; with `drafts` all
// but the first are what the program's drafter says.
inline void run_text_step(program::Executor* executor, uint32_t program,
                          std::span<const int32_t> text, uint32_t begin, uint32_t count,
                          std::span<const uint32_t> pages, bool drafts = false) {
  std::vector<program::Column> columns(count);
  for (uint32_t i = 0; i < count; ++i) {
    columns[i].position = begin + i;
    columns[i].token_id = text[begin + i];
    columns[i].wants_logits = program == kDecode;
    columns[i].is_drafted = drafts && i > 0;
  }
  program::StepOutput output;
  exit_on_error(executor->run(program, {.columns = columns, .page_tables = {&pages, 1}}, &output));
}

}  // namespace ultraspeed
