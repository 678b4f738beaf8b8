// How many generations each client has under way, where that is limited. Used on the event-loop
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

namespace ultraspeed::server {

class ClientPlaces {
 public:
  explicit ClientPlaces(uint32_t max_per_client) : max_(max_per_client) {}

  // nullptr: the client has all of its places. The place is free again when the last copy goes.
  std::shared_ptr<const void> take(const std::string& client);
  uint32_t num_free(const std::string& client) const;

 private:
  using Counts = std::unordered_map<std::string, uint32_t>;  // of places taken; none is 0

  const uint32_t max_;
  const std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

}  // namespace ultraspeed::server
