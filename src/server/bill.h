// What an answer costs: of its tokens those that the client's socket has accepted, as the ledger
// is to have them. Used on the event-loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "access/billing.h"
#include "server/generation_log.h"

namespace ultraspeed::server {

class Bill {
 public:
  // `on_end`: called when nothing more will be billed; or empty.
  Bill(access::Reservation reservation, std::function<void()> on_end)
      : reservation_(std::move(reservation)), on_end_(std::move(on_end)) {}
  ~Bill();  // which ends it
  Bill(const Bill&) = delete;
  Bill& operator=(const Bill&) = delete;

  // By which the ledger knows it.
  std::string id() const { return reservation_.id().text(); }
  // What the answer may have, of all candidates together.
  uint32_t max_output_tokens() const { return reservation_.max_output_tokens(); }

  // What leaves now shows all that the log counts. False: nothing that it did not show before.
  bool show(const GenerationLog& log);
  // What to call when the socket has accepted that. Keeps the bill open.
  static std::function<void()> when_accepted(std::shared_ptr<Bill> bill);
  // How the answer ended.
  void set_end(const GenerationLog& log);

 private:
  access::Reservation reservation_;
  std::function<void()> on_end_;
  access::Reservation::Delivery shown_, accepted_;
  access::Finish end_ = access::Finish::kFailed;
};

}  // namespace ultraspeed::server
