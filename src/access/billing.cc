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
      shares_(std::move(other.shares_)),
      delivered_(other.delivered_) {}

Reservation::~Reservation() {
  if (billing_ != nullptr) finish(Finish::kFailed);
}

void Reservation::deliver(const Delivery& delivery) {
  US_CHECK(billing_ != nullptr, "request {} has finished", id_.text());
  US_CHECK(delivery.output_tokens >= delivered_.output_tokens &&
               delivery.output_tokens <= hold().output_tokens &&
               delivery.cached_input_tokens <= hold().input_tokens,
           "{} tokens after {}, of at most {}", delivery.output_tokens, delivered_.output_tokens,
           hold().output_tokens);
  const uint32_t num_new_tokens = delivery.output_tokens - delivered_.output_tokens;
  delivered_ = delivery;
  billing_->deliver(*this, num_new_tokens);
}

Money Reservation::finish(Finish how) {
  US_CHECK(billing_ != nullptr && how != Finish::kUnderWay, "request {} has finished", id_.text());
  return std::exchange(billing_, nullptr)->finish(*this, how);
}

Result<std::unique_ptr<Billing>> Billing::open(Database& database, const Clock& clock,
                                               const AccessConfig& config) {
  US_ASSIGN(DeliveryJournal journal, DeliveryJournal::open(config.journal_file));
  std::unique_ptr<Billing> billing(new Billing(database, clock, config.limits, std::move(journal)));
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
    const Error& error = num_settled.error();
    return make_error(error.code, "{}: cannot bill what an earlier server left there: {}; {}",
                      journal_.path(), error.message,
                      error.code == ErrorCode::kNotFound
                          ? "its accounts or keys are another database's: name that one, or move "
                            "the journal away"
                          : "keep the journal, which has it, make the database writable (is there "
                            "room on the disk?) and start again");
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

// REQUIRES: mutex_ is held.
Answer<Billing::Bounds> Billing::bounds_of(const Identity& identity) {
  const int64_t account = identity.account.id;
  if (identity.key_id == 0) {
    Meter& chat = chat_meters_.try_emplace(account, "account", Money(), 0).first->second;
    return Bounds{{&chat, identity.limits}};
  }
  auto all = account_meters_.find(account);
  if (all == account_meters_.end()) {
    US_ASSIGN(const Money spent, keys_.spent_by(account));
    all = account_meters_.try_emplace(account, "account", spent, 0).first;
  }
  Meter& key = key_meters_.try_emplace(identity.key_id, "key", identity.spent, identity.used_tokens)
                   .first->second;
  const bool is_plan = identity.kind == KeyKind::kTokenPlan;
  return Bounds{{&key, identity.limits},
                {&all->second, account_limits(offered_, identity.limits), !is_plan}};
}

// What every bound allows.
Answer<Meter::Hold> Billing::hold(const Bounds& bounds, const Rates& rates, const Order& order,
                                  UtcTime now) const {
  Meter::Hold hold{order.input_tokens, order.max_output_tokens, order.num_answers, {}};
  for (const Bound& bound : bounds) {
    US_ASSIGN(hold.output_tokens, bound.meter->allowed_output(bound.limits, rates, hold, now));
  }
  hold.price = rates.cost({0, hold.input_tokens, hold.output_tokens});
  return hold;
}

// Where all bounds allow it, at all of them.
template <class Check, class Add>
Answer<void> Billing::count(const Identity& identity, Check&& check, Add&& add) {
  const std::lock_guard lock(mutex_);
  US_ASSIGN(const Bounds bounds, bounds_of(identity));
  for (const Bound& bound : bounds) US_TRY(check(*bound.meter, bound.limits));
  for (const Bound& bound : bounds) add(*bound.meter);
  return {};
}

Answer<void> Billing::count_request(const Identity& identity) {
  const UtcTime now = clock_.now();
  return count(
      identity,
      [now](const Meter& meter, const KeyLimits& limits) {
        return meter.check_request(limits, now);
      },
      [now](Meter& meter) { meter.count_request(now); });
}

Answer<void> Billing::count_tokens(const Identity& identity, uint32_t num_tokens) {
  const UtcTime now = clock_.now();
  return count(
      identity,
      [now, num_tokens](const Meter& meter, const KeyLimits& limits) {
        return meter.check_tokens(limits, num_tokens, now);
      },
      [now, num_tokens](Meter& meter) { meter.deliver(num_tokens, now); });
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
  US_ASSIGN(const Bounds bounds, bounds_of(identity));
  US_ASSIGN(const Meter::Hold held, hold(bounds, request.rates, order, now));
  std::vector<Reservation::Share> shares;
  for (const Bound& bound : bounds) {
    Reservation::Share& share = shares.emplace_back(Reservation::Share{bound.meter, held});
    if (!bound.has_money) share.hold.price = {};
    share.meter->begin(share.hold, now);
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  journal_.begin(slot, request);
  return Reservation(this, slot, request.id, std::move(shares));
}

void Billing::deliver(const Reservation& reservation, uint32_t num_new_tokens) {
  record(reservation.slot_, reservation.delivered_, Finish::kUnderWay);
  const UtcTime now = clock_.now();
  const std::lock_guard lock(mutex_);
  for (const Reservation::Share& share : reservation.shares_) {
    share.meter->deliver(num_new_tokens, now);
  }
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
  for (const Reservation::Share& share : reservation.shares_) {
    share.meter->end(share.hold, tokens, std::min(price, share.hold.price));
  }
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
