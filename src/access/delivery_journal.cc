#include "access/delivery_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

constexpr uint64_t kMagic = 0x314c4e524a445355;  // "USDJRNL1", which names the layout below
constexpr std::array<std::string_view, 6> kFinishNames = {"under way", "complete", "disconnected",
                                                          "cancelled", "failed",   "killed"};

struct FileHeader {
  uint64_t magic;
  uint32_t num_slots;
  uint32_t slot_bytes;
  std::array<uint64_t, 30> unused;
};

struct ProgressRecord {
  JournalProgress progress;
  uint64_t sequence;  // the greater of two is the newer; 0: none
  uint64_t checksum;
};

struct Slot {
  uint64_t is_taken;
  uint64_t checksum;  // of the request
  JournalRequest request;
  std::array<ProgressRecord, 2> records;
};
static_assert(sizeof(JournalRequest) == 144 && sizeof(ProgressRecord) == 40);
static_assert(sizeof(FileHeader) == 256 && sizeof(Slot) == 240);

// SipHash with a fixed key: it finds tears, not forgers.
uint64_t hash_of(const void* data, size_t num_bytes) {
  static constexpr std::array<unsigned char, crypto_shorthash_KEYBYTES> kKey = {'d', 'e', 'l'};
  uint64_t hash = 0;
  static_assert(sizeof hash == crypto_shorthash_BYTES);
  crypto_shorthash(reinterpret_cast<unsigned char*>(&hash), static_cast<const unsigned char*>(data),
                   num_bytes, kKey.data());
  return hash;
}

uint64_t checksum_of(const RequestId& id, const ProgressRecord& record) {
  struct {
    RequestId id;
    JournalProgress progress;
    uint64_t sequence;
  } const covered = {id, record.progress, record.sequence};
  static_assert(sizeof covered == 48);
  return hash_of(&covered, sizeof covered);
}

// The compiler must not move stores across this line. The processor does not matter: a process that
// is killed has executed a beginning of its instructions, and all of their stores reach the file.
void keep_order() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

// The newer of the records that are whole; nullptr: neither is.
const ProgressRecord* newest(const Slot& slot) {
  const ProgressRecord* found = nullptr;
  for (const ProgressRecord& record : slot.records) {
    if (record.sequence == 0 || record.checksum != checksum_of(slot.request.id, record)) continue;
    if (found == nullptr || record.sequence > found->sequence) found = &record;
  }
  return found;
}

JournalEntry entry_of(const Slot& slot) {
  const ProgressRecord* const record = newest(slot);
  return {slot.request, record == nullptr ? JournalProgress() : record->progress};
}

Slot* slot_at(std::byte* data, uint32_t slot) {
  return reinterpret_cast<Slot*>(data + sizeof(FileHeader)) + slot;
}

tl::unexpected<Error> journal_error(const std::string& path, const char* what) {
  return make_error(ErrorCode::kIo, "{}: cannot {} the delivery journal: {}", path, what,
                    std::strerror(errno));
}

bool read_exactly(int file, void* out, size_t num_bytes, size_t offset) {
  return pread(file, out, num_bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(num_bytes);
}

}  // namespace

std::string_view finish_name(Finish finish) {
  return kFinishNames[static_cast<size_t>(finish)];
}

std::string RequestId::text() const {
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

void JournalRequest::set_model(std::string_view name) {
  model.fill('\0');
  std::ranges::copy(name.substr(0, model.size()), model.begin());
}

std::string JournalRequest::model_name() const {
  return {model.begin(), std::ranges::find(model, '\0')};
}

Result<DeliveryJournal> DeliveryJournal::open(const std::string& path) {
  US_ASSIGN(LockedFile file, LockedFile::open(path, "delivery journal"));
  DeliveryJournal journal(path, std::move(file));
  US_TRY(journal.read_left_behind());
  return journal;
}

Status DeliveryJournal::read_left_behind() {
  struct stat status = {};
  if (fstat(file_.descriptor(), &status) != 0) return journal_error(path_, "read");
  FileHeader header = {};
  const auto size = static_cast<size_t>(status.st_size);
  // A process that ended in reset() leaves an empty file, or zeros.
  if (size == 0 ||
      (size >= sizeof header && read_exactly(file_.descriptor(), &header, sizeof header, 0) &&
       header.magic == 0)) {
    return {};
  }
  if (header.magic != kMagic || header.slot_bytes != sizeof(Slot) ||
      size != sizeof header + size_t{header.num_slots} * sizeof(Slot)) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: no delivery journal of this program; move it away if nothing in it has "
                      "to be billed",
                      path_);
  }
  for (uint32_t i = 0; i < header.num_slots; ++i) {
    Slot slot = {};
    if (!read_exactly(file_.descriptor(), &slot, sizeof slot,
                      sizeof header + size_t{i} * sizeof slot)) {
      return journal_error(path_, "read");
    }
    if (slot.is_taken == 0) continue;
    if (slot.checksum == hash_of(&slot.request, sizeof slot.request)) {
      left_behind_.push_back(entry_of(slot));
    } else {
      ++num_unreadable_;
    }
  }
  return {};
}

Status DeliveryJournal::reset(uint32_t num_slots) {
  US_CHECK(data_ == nullptr, "{} is mapped", path_);
  const size_t size = sizeof(FileHeader) + size_t{num_slots} * sizeof(Slot);
  if (ftruncate(file_.descriptor(), 0) != 0) return journal_error(path_, "empty");
  // A page that the disk has no room for would be a signal at the first write to it.
  errno = posix_fallocate(file_.descriptor(), 0, static_cast<off_t>(size));
  if (errno != 0) return journal_error(path_, "make room for");
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.descriptor(), 0);
  if (data == MAP_FAILED) return journal_error(path_, "map");
  data_ = static_cast<std::byte*>(data);
  size_bytes_ = size;
  auto& header = *reinterpret_cast<FileHeader*>(data_);
  header.num_slots = num_slots;
  header.slot_bytes = sizeof(Slot);
  keep_order();
  header.magic = kMagic;
  left_behind_.clear();
  num_unreadable_ = 0;
  return {};
}

void DeliveryJournal::begin(uint32_t slot, const JournalRequest& request) {
  Slot& taken = *slot_at(data_, slot);
  US_CHECK(taken.is_taken == 0, "slot {} is taken", slot);
  taken.request = request;
  taken.checksum = hash_of(&taken.request, sizeof taken.request);
  keep_order();
  taken.is_taken = 1;
  keep_order();
}

void DeliveryJournal::record(uint32_t slot, const JournalProgress& progress) {
  Slot& taken = *slot_at(data_, slot);
  US_CHECK(taken.is_taken != 0, "slot {} is free", slot);
  const ProgressRecord* const last = newest(taken);
  ProgressRecord& older = taken.records[last == &taken.records[0] ? 1 : 0];
  older.progress = progress;
  older.sequence = last == nullptr ? 1 : last->sequence + 1;
  older.checksum = checksum_of(taken.request.id, older);
  keep_order();
}

JournalEntry DeliveryJournal::entry(uint32_t slot) const {
  return entry_of(*slot_at(data_, slot));
}

void DeliveryJournal::release(uint32_t slot) {
  slot_at(data_, slot)->is_taken = 0;
  keep_order();
}

DeliveryJournal::DeliveryJournal(DeliveryJournal&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(other.size_bytes_),
      left_behind_(std::move(other.left_behind_)),
      num_unreadable_(other.num_unreadable_) {}

DeliveryJournal::~DeliveryJournal() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

}  // namespace ultraspeed::access
