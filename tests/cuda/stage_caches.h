// Which stages of a program read and write which caches of tiles of a machine.
#pragma once

#include <cstdint>

#include "cuda/machine.h"
#include "program/operands.h"
#include "program/program.h"

namespace ultraspeed::test {

class StageCaches {
 public:
  // Both outlive this.
  StageCaches(const program::Program& program, const cuda::Machine& gpu)
      : program_(program), gpu_(gpu) {}

  // The attention of a stage that attends or merges; else nullptr.
  const program::AttentionOperands* attention_of(uint32_t stage) const;
  // The cache of tiles that a stage attends to, or whose rows it makes; or kNoId.
  program::CacheId tiles_of(uint32_t stage) const;
  // Whether it attends to a short window of tiles, and so brings the step's own rows there.
  bool attention_stores(uint32_t stage) const;
  // The stage that makes the rows of a draft block.
  const program::QkvProjOperands& writer_of(const program::AttentionOperands& block) const;
  // Whether it makes rows of a draft block that are rounded as they come to tiles.
  bool makes_block_rows(uint32_t stage) const;

 private:
  const program::Program& program_;
  const cuda::Machine& gpu_;
};

}  // namespace ultraspeed::test
