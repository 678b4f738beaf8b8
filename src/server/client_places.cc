#include "server/client_places.h"

namespace ultraspeed::server {

std::shared_ptr<const void> ClientPlaces::take(const std::string& client) {
  if (num_free(client) == 0) return nullptr;
  ++(*counts_)[client];
  return {counts_.get(), [counts = counts_, client](const void*) {
            const auto count = counts->find(client);
            if (--count->second == 0) counts->erase(count);
          }};
}

uint32_t ClientPlaces::num_free(const std::string& client) const {
  const auto count = counts_->find(client);
  return count == counts_->end() ? max_ : max_ - count->second;
}

}  // namespace ultraspeed::server
