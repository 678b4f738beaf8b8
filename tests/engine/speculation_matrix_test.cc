// Texts of the bundled model with every drafter and decode width, packed and alone.
#include <gtest/gtest.h>

#include <vector>

#include "engine/model_texts.h"

namespace ultraspeed::engine {
namespace {

TEST(SpeculationMatrix, EveryDrafterAtEveryWidth) {
  auto requests = make_requests({0, 4}, 10);
  const auto expected = reference_texts(&requests);
  for (const DrafterOptions& drafter : all_drafters()) {
    check({drafter, 8, 1}, requests, expected, true);
    check({drafter, 16, 2}, requests, expected, false);
    check({drafter, 32, 1}, requests, expected, false);
  }
}

TEST(SpeculationMatrix, Int8TextsDependOnNothingElseEither) {
  auto requests = make_requests({0, 4}, 10);
  constexpr auto kInt8 = cpu::Activations::kInt8;
  const auto expected = reference_texts(&requests, kInt8);
  for (const DrafterOptions& drafter : all_drafters()) {
    check({.drafter = drafter, .num_threads = 2, .activations = kInt8}, requests, expected, true);
    check({.drafter = drafter, .decode_width = 16, .activations = kInt8}, requests, expected,
          false);
    check({.drafter = drafter, .decode_width = 32, .num_threads = 2, .activations = kInt8},
          requests, expected, false);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
