// Texts of the bundled model with every drafter and decode width, packed and alone.
#include <gtest/gtest.h>

#include <vector>

#include "engine/model_texts.h"
#include "support/mtp_generator.h"

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
  const test::TinyMimoWithMtp with_mtp(3);
  for (const uint32_t num_threads : {1u, 2u}) {
    check(mtp_setup(with_mtp.path(), 8, num_threads), requests, expected, true);
    check(mtp_setup(with_mtp.path(), 16, num_threads), requests, expected, false);
    check(mtp_setup(with_mtp.path(), 32, num_threads), requests, expected, false);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
