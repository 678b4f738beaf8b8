// What running requests have delivered, in a memory-mapped file: it outlives the process, also one
// that is killed between any two instructions, and costs no system call per token.
//
// A slot is a request's from begin() to release(). It has a header, which is complete before the
// slot counts as taken, and two records of progress, of which each update overwrites the older one.
// Every part has a checksum that covers the request's id: of a record that was torn, or is left of
// an earlier request, nothing counts, and then the record before it holds, which says less. So what
// the file says was delivered is what was recorded last, or one update less. Who records what the
// kernel's socket has accepted, after it has, never records too much.
//
// The file is locked while open. It is not flushed: a loss of power may lose what it said of the
// requests under way and those not yet in the ledger, at most `num_slots`, never more than they
// had; what is already in the ledger is known by its request id.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/clock.h"
#include "access/money.h"
#include "access/private_file.h"
#include "access/tier.h"
#include "base/result.h"

namespace ultraspeed::access {

enum class Finish : uint8_t {
  kUnderWay,      // only in the journal
  kComplete,      // delivered to the end
  kDisconnected,  // the client went away
  kCancelled,     // by the server: a limit, a drain
  kFailed,        // an error of the engine
  kKilled,        // the server ended in the middle of it
};
std::string_view finish_name(Finish finish);  // "complete"

struct RequestId {
  std::array<uint64_t, 2> words{};
  std::string text() const;  // 32 hexadecimal digits
  bool operator==(const RequestId&) const = default;
};

// What is known when a request begins. Plain data: it lies in the file as it is here.
struct JournalRequest {
  RequestId id;
  int64_t account_id = 0;
  int64_t key_id = 0;  // 0: none, a chat
  int64_t begun_ms = 0;
  Rates rates;
  uint32_t multiplier_thousandths = 1000;
  uint32_t input_tokens = 0;  // cached ones, too
  uint32_t tier = 0;
  std::array<char, 68> model{};  // its name's beginning, zeros behind it

  void set_model(std::string_view name);
  std::string model_name() const;
};

struct JournalProgress {
  uint32_t cached_input_tokens = 0;
  uint32_t output_tokens = 0;  // delivered
  uint32_t num_steps = 0;      // of the engine, in which these were made
  uint32_t finish = 0;         // a Finish
  uint64_t duration_ms = 0;
};

struct JournalEntry {
  JournalRequest request;
  JournalProgress progress;  // zero: none recorded
};

// One thread at a time for each slot; slots are independent.
class DeliveryJournal {
 public:
  // Locks the file, creating it (0600) where there is none, and reads what an earlier process left.
  // Errors: kIo (another process has it, others may read it, no such folder), kInvalidData (no
  // journal).
  static Result<DeliveryJournal> open(const std::string& path);
  DeliveryJournal(DeliveryJournal&& other) noexcept;
  DeliveryJournal& operator=(DeliveryJournal&&) = delete;
  ~DeliveryJournal();

  const std::string& path() const { return path_; }
  const std::vector<JournalEntry>& left_behind() const { return left_behind_; }
  // Slots that were taken, but say nothing that can be trusted (after a loss of power).
  uint32_t num_unreadable() const { return num_unreadable_; }

  // Forgets what was left behind and makes `num_slots` free slots, with room on the disk for each.
  // Errors: kIo (a full disk).
  Status reset(uint32_t num_slots);

  // All below: REQUIRES: reset(); slot < num_slots.
  void begin(uint32_t slot, const JournalRequest& request);
  // REQUIRES: the slot is taken.
  void record(uint32_t slot, const JournalProgress& progress);
  JournalEntry entry(uint32_t slot) const;
  void release(uint32_t slot);

 private:
  DeliveryJournal(std::string path, LockedFile file)
      : path_(std::move(path)), file_(std::move(file)) {}
  Status read_left_behind();

  std::string path_;
  LockedFile file_;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  std::vector<JournalEntry> left_behind_;
  uint32_t num_unreadable_ = 0;
};

}  // namespace ultraspeed::access
