// From a request's admission to its row in the ledger:
//
//   reserve()   checks the key's limits, holds what it may cost at most, takes a slot in the
//   journal deliver()   after the kernel's socket accepted bytes: how many tokens these make in all
//   finish()    how it ended; its price is known, and what was held and not used is free again
//   commit()    writes what has finished into the ledger and gives its slots back
//
// Whatever ends the process, open() of the next one writes what the journal has into the ledger. A
// request is billed exactly once: its slot is released after its row is committed, and a row whose
// request id is there already is not written again. Of which nothing was delivered costs nothing.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "access/config.h"
#include "access/delivery_journal.h"
#include "access/gate.h"
#include "access/ledger.h"
#include "access/meter.h"

namespace ultraspeed::access {

class Billing;

struct Order {
  std::string model;            // as the ledger is to name it
  Tier tier = Tier::kStandard;  // that will serve it
  uint32_t input_tokens = 0;
  uint32_t max_output_tokens = 0;  // for all answers together
  bool is_complimentary = false;   // a chat: in the ledger at price 0
  uint32_t num_answers = 1;        // that are written at the same time
};

// A request under way. One thread at a time; not to outlive its Billing. Destroyed without finish()
// it is one that failed.
class Reservation {
 public:
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&&) = delete;
  ~Reservation();

  const RequestId& id() const { return id_; }
  // What the answer may have: as many as were ordered, or as many as the key can pay.
  uint32_t max_output_tokens() const { return hold().output_tokens; }

  // All that was delivered so far. REQUIRES: not less than before, not more than reserved.
  struct Delivery {
    uint32_t output_tokens = 0;
    uint32_t num_steps = 0;            // of the engine, that made them
    uint32_t cached_input_tokens = 0;  // of the input
  };
  void deliver(const Delivery& delivery);
  // Takes no system call: the row is written by the next commit(). What it is billed.
  Money finish(Finish how);

 private:
  friend class Billing;
  struct Share {
    Meter* meter;
    Meter::Hold hold;
  };
  Reservation(Billing* billing, uint32_t slot, const RequestId& id, std::vector<Share> shares)
      : billing_(billing), slot_(slot), id_(id), shares_(std::move(shares)) {}
  const Meter::Hold& hold() const { return shares_.front().hold; }

  Billing* billing_;  // nullptr: finished, or moved from
  uint32_t slot_;
  RequestId id_;
  std::vector<Share> shares_;  // of the key and of its account, or of the chat's account
  Delivery delivered_;
};

// Thread-safe. REQUIRES: no other process has the journal, which open() checks.
class Billing {
 public:
  // What an earlier process left, settled.
  struct Recovery {
    uint32_t num_settled = 0;     // written now
    uint32_t num_known = 0;       // in the ledger already
    uint32_t num_unreadable = 0;  // billed nothing; an entry in the audit log says so
  };

  // Errors: those of DeliveryJournal and Database, kInvalidArgument (prices).
  static Result<std::unique_ptr<Billing>> open(Database& database, const Clock& clock,
                                               const AccessConfig& config);

  // Refuses: as Meter::allowed_output() of the key and of its account's keys together; 503
  // "too_many_requests_in_flight". REQUIRES: an account.
  Answer<Reservation> reserve(const Identity& identity, const Order& order);
  // A request as it comes, against the requests a minute. Refuses: 429.
  Answer<void> count_request(const Identity& identity);
  // What is read for somebody and not billed, against the tokens a minute. Refuses: 429, 413.
  Answer<void> count_tokens(const Identity& identity, uint32_t num_tokens);
  // Writes what has finished; how many rows. After an error it stays finished, for the next time.
  Result<uint32_t> commit();
  const Recovery& recovery() const { return recovery_; }

 private:
  friend class Reservation;
  // A meter and what it has to stay within.
  struct Bound {
    Meter* meter;
    KeyLimits limits;
    bool has_money = true;  // a Token Plan's is no money of its account's
  };
  using Bounds = std::vector<Bound>;  // one or two

  Billing(Database& database, const Clock& clock, const KeyLimits& offered, DeliveryJournal journal)
      : ledger_(database),
        keys_(database, clock),
        clock_(clock),
        offered_(offered),
        journal_(std::move(journal)) {}
  Status recover(Database& database);
  Answer<Bounds> bounds_of(const Identity& identity);
  template <class Check, class Add>
  Answer<void> count(const Identity& identity, Check&& check, Add&& add);
  Answer<Meter::Hold> hold(const Bounds& bounds, const Rates& rates, const Order& order,
                           UtcTime now) const;
  void record(uint32_t slot, const Reservation::Delivery& delivery, Finish finish);
  void deliver(const Reservation& reservation, uint32_t num_new_tokens);
  Money finish(const Reservation& reservation, Finish how);

  Ledger ledger_;
  Keys keys_;
  const Clock& clock_;
  const KeyLimits offered_;  // to an account
  DeliveryJournal journal_;
  Recovery recovery_;
  std::array<Rates, kNumTiers> rates_;
  std::array<Multiplier, kNumTiers> multipliers_;

  std::mutex mutex_;  // of what is below
  // As many as there are keys and accounts; none ever moves.
  std::unordered_map<int64_t, Meter> key_meters_, account_meters_, chat_meters_;
  std::vector<uint32_t> free_slots_;
  std::vector<uint32_t> finished_slots_;

  std::mutex commit_mutex_;
};

}  // namespace ultraspeed::access
