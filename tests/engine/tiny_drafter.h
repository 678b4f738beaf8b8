// A DFlash drafter of random weights that fits the bundled model, as the tests of engines open it.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "engine/model_texts.h"
#include "model/drafter.h"
#include "support/drafter_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {

class TinyDrafter {
 public:
  explicit TinyDrafter(bool is_mimo, bool is_silent = false, uint32_t selector_rank = 0) {
    test::DrafterOptions options = test::tiny_mimo_drafter();
    options.selector_rank = selector_rank;
    options.is_mimo = is_mimo;
    options.is_silent = is_silent;
    options.mask_token_id = 9;
    options.sliding_window = is_mimo ? 64 : 20;
    if (!is_mimo) options.layer_types = {"sliding_attention", "full_attention"};
    auto written = test::write_drafter(directory_.path(), options);
    EXPECT_TRUE(written) << written.error().message;
    weights_ = std::move(*written);
    auto opened = model::Drafter::open(directory_.path());
    EXPECT_TRUE(opened) << opened.error().message;
    drafter_.emplace(std::move(*opened));
  }

  Setup setup(uint32_t block_size, uint32_t decode_width, uint32_t num_threads) const {
    return {{DrafterKind::kDflash, 1}, decode_width, num_threads, block_size, &*drafter_};
  }
  const model::Drafter& drafter() const { return *drafter_; }
  const test::GeneratedDrafter& weights() const { return weights_; }
  const std::string& path() const { return directory_.path(); }

 private:
  test::TemporaryDirectory directory_;
  test::GeneratedDrafter weights_;
  std::optional<model::Drafter> drafter_;
};

}  // namespace ultraspeed::engine
