// Texts of the bundled model with every drafter, decode width and thread count, packed and alone.
#include <gtest/gtest.h>

#include <vector>

#include "engine/model_texts.h"

namespace ultraspeed::engine {
namespace {

TEST(SpeculationMatrix, EveryDrafterWidthAndThreadCount) {
  auto requests = make_requests({0, 4, 10}, 16);
  const auto expected = reference_texts(&requests);
  for (const DrafterOptions& drafter : all_drafters()) {
    for (const uint32_t width : {8u, 16u, 32u}) {
      for (const uint32_t num_threads : {1u, 2u}) {
        const bool also_alone = width == 8 && num_threads == 1;
        check({drafter, width, num_threads}, requests, expected, also_alone);
      }
    }
  }
}

}  // namespace
}  // namespace ultraspeed::engine
