#include "server/bill.h"

#include <algorithm>

namespace ultraspeed::server {
namespace {

access::Reservation::Delivery delivery_of(const GenerationLog& log) {
  access::Reservation::Delivery delivery;
  if (log.first_token == GenerationLog::TimePoint()) return delivery;  // no step gave anything
  const size_t num_tokens = log.completion_tokens - log.judge_tokens;
  delivery.output_tokens = static_cast<uint32_t>(log.shown_tokens);
  // A prefill's token is of no cycle; a prompt that the cache knows has no prefill.
  const size_t num_steps = log.speculation.num_cycles() + num_tokens - log.speculation.num_tokens();
  delivery.num_steps = static_cast<uint32_t>(std::max<size_t>(num_steps, 1));
  delivery.cached_input_tokens = static_cast<uint32_t>(log.cached_tokens);
  return delivery;
}

}  // namespace

bool Bill::show(const GenerationLog& log) {
  const access::Reservation::Delivery now = delivery_of(log);
  const bool is_first = now.num_steps > 0 && shown_.num_steps == 0;
  if (!is_first && now.output_tokens == shown_.output_tokens) return false;
  shown_ = now;
  return true;
}

std::function<void()> Bill::when_accepted(std::shared_ptr<Bill> bill) {
  return [delivery = bill->shown_, bill] {
    bill->accepted_ = delivery;
    bill->reservation_.deliver(delivery);
  };
}

void Bill::set_end(const GenerationLog& log) {
  switch (log.outcome) {
    case Outcome::kStop:
    case Outcome::kLength:
    case Outcome::kDeadline:
      end_ = access::Finish::kComplete;
      break;
    case Outcome::kAborted:
      end_ = access::Finish::kDisconnected;
      break;
    case Outcome::kNone:
      end_ = access::Finish::kCancelled;
      break;
    case Outcome::kFailed:
      end_ = access::Finish::kFailed;
      break;
  }
}

Bill::~Bill() {
  const bool has_all = accepted_.output_tokens == shown_.output_tokens;
  if (end_ == access::Finish::kComplete && !has_all) end_ = access::Finish::kDisconnected;
  reservation_.finish(end_);
  if (on_end_) on_end_();
}

}  // namespace ultraspeed::server
