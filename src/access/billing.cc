#include "access/billing.h"

#include <fmt/format.h>
#include <sodium.h>

#include <utility>

#include "access/audit.h"
#include "access/database.h"
#include "base/check.h"

namespace ultraspeed::access {
namespace {

RequestId random_id() {
  RequestId id;
  randombytes_buf(id.words.data(), sizeof id.words);
  return id;
}

}  // namespace

Reservation::Reservation(Reservation&& other) noexcept
    : billing_(std::exchange(other.billing_, nullptr)),
      slot_(other.slot_),
      id_(other.id_),
      hold_(other.hold_),
      delivered_(other.delivered_) {}

Reservation::~Reservation() {
  if (billing_ != nullptr) finish(Finish::kFailed);
}

void Reservation::deliver(const Delivery& delivery) {
  US_CHECK(billing_ != nullptr, "request {} has finished", id_.text());
  US_CHECK(delivery.output_tokens >= delivered_.output_tokens &&
               delivery.output_tokens <= hold_.output_tokens &&
               delivery.cached_input_tokens <= hold_.input_tokens,
           "{} tokens after {}, of at most {}", delivery.output_tokens, delivered_.output_tokens,
           hold_.output_tokens);
  delivered_ = delivery;
  billing_->record(slot_, delivered_, Finish::kUnderWay);
}

Money Reservation::finish(Finish how) {
  US_CHECK(billing_ != nullptr && how != Finish::kUnderWay, "request {} has finished", id_.text());
  return std::exchange(billing_, nullptr)->finish(*this, how);
}

Result<std::unique_ptr<Billing>> Billing::open(Database& database, const Clock& clock,
                                               const AccessConfig& config) {
  US_ASSIGN(DeliveryJournal journal, DeliveryJournal::open(config.journal_file));
  std::unique_ptr<Billing> billing(new Billing(database, clock, std::move(journal)));
  for (size_t i = 0; i < kNumTiers; ++i) {
    billing->multipliers_[i] = config.tiers[i].multiplier;
    US_ASSIGN(billing->rates_[i], Rates::of(config.prices, config.tiers[i].multiplier));
  }
  US_TRY(billing->recover(database));
  US_TRY(billing->journal_.reset(config.max_requests_in_flight));
  for (uint32_t i = config.max_requests_in_flight; i > 0; --i) {
    billing->free_slots_.push_back(i - 1);
  }
  return billing;
}

Status Billing::recover(Database& database) {
  const std::vector<JournalEntry>& entries = journal_.left_behind();
  recovery_.num_unreadable = journal_.num_unreadable();
  const Result<uint32_t> num_settled = ledger_.append(entries);
  if (!num_settled) {
    return make_error(num_settled.error().code,
                      "{}: cannot bill what an earlier server left there: {}; if it is of another "
                      "database, move it away",
                      journal_.path(), num_settled.error().message);
  }
  recovery_.num_settled = *num_settled;
  recovery_.num_known = static_cast<uint32_t>(entries.size()) - recovery_.num_settled;
  if (entries.empty() && recovery_.num_unreadable == 0) return {};
  return database.write([&](SQLite::Database& sql) -> Status {
    append_audit(
        sql, {0, clock_.now(), "server", "settle what a killed server left", "delivery journal",
              fmt::format("{} billed now, {} before, {} unreadable and not billed",
                          recovery_.num_settled, recovery_.num_known, recovery_.num_unreadable)});
    return {};
  });
}

Meter& Billing::meter_of(const Identity& identity) {
  const int64_t id = identity.key_id != 0 ? identity.key_id : -identity.account.id;
  return meters_.try_emplace(id, identity.spent, identity.used_tokens).first->second;
}

Answer<Reservation> Billing::reserve(const Identity& identity, const Order& order) {
  US_CHECK(identity.account.id != 0 && order.max_output_tokens > 0, "account {}, {} tokens",
           identity.account.id, order.max_output_tokens);
  const auto tier = static_cast<size_t>(order.tier);
  JournalRequest request;
  request.id = random_id();
  request.account_id = identity.account.id;
  request.key_id = identity.key_id;
  const UtcTime now = clock_.now();
  request.begun_ms = to_ms(now);
  request.rates = order.is_complimentary ? Rates() : rates_[tier];
  request.multiplier_thousandths = multipliers_[tier].thousandths;
  request.input_tokens = order.input_tokens;
  request.tier = static_cast<uint32_t>(tier);
  request.set_model(order.model);

  const std::lock_guard lock(mutex_);
  if (free_slots_.empty()) {
    return refuse(503, "too_many_requests_in_flight", "The server has too many requests under way.",
                  1);
  }
  US_ASSIGN(const Meter::Hold hold,
            meter_of(identity).begin(identity.limits, request.rates, order.input_tokens,
                                     order.max_output_tokens, now));
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  journal_.begin(slot, request);
  return Reservation(this, slot, request.id, hold);
}

void Billing::record(uint32_t slot, const Reservation::Delivery& delivery, Finish finish) {
  const int64_t begun_ms = journal_.entry(slot).request.begun_ms;
  const int64_t duration = std::max<int64_t>(0, to_ms(clock_.now()) - begun_ms);
  journal_.record(slot, {delivery.cached_input_tokens, delivery.output_tokens, delivery.num_steps,
                         static_cast<uint32_t>(finish), static_cast<uint64_t>(duration)});
}

Money Billing::finish(const Reservation& reservation, Finish how) {
  record(reservation.slot_, reservation.delivered_, how);
  const JournalEntry entry = journal_.entry(reservation.slot_);
  const TokenCounts tokens = billed_tokens(entry);
  const Money price = entry.request.rates.cost(tokens);
  const std::lock_guard lock(mutex_);
  const int64_t id = entry.request.key_id != 0 ? entry.request.key_id : -entry.request.account_id;
  meters_.at(id).end(reservation.hold_, tokens, price, clock_.now());
  finished_slots_.push_back(reservation.slot_);
  return price;
}

Result<uint32_t> Billing::commit() {
  const std::lock_guard one_at_a_time(commit_mutex_);
  std::vector<uint32_t> slots;
  {
    const std::lock_guard lock(mutex_);
    slots.swap(finished_slots_);
  }
  if (slots.empty()) return 0;
  std::vector<JournalEntry> entries;
  entries.reserve(slots.size());
  for (const uint32_t slot : slots) entries.push_back(journal_.entry(slot));
  Result<uint32_t> num_rows = ledger_.append(entries);
  const std::lock_guard lock(mutex_);
  if (!num_rows) {
    finished_slots_.insert(finished_slots_.end(), slots.begin(), slots.end());
    return num_rows;
  }
  for (const uint32_t slot : slots) {
    journal_.release(slot);
    free_slots_.push_back(slot);
  }
  return num_rows;
}

}  // namespace ultraspeed::access
