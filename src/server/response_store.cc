#include "server/response_store.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr size_t kEntryBytes = 256;  // of a response or an item beside its strings

bool is_visible(ConnectionId of, ConnectionId to) {
  return of == kNoConnection || of == to;
}

}  // namespace

const ApiResult<Json>& ItemValue::of(const std::string& json) {
  std::call_once(once_, [&] { value_ = parse_json(json); });
  return value_;
}

size_t ResponseStore::bytes_of(const StoredResponse& response) {
  size_t bytes =
      response.id.size() + response.previous_id.size() + response.json.size() + kEntryBytes;
  for (const auto* items : {&response.input, &response.output}) {
    for (const StoredItem& item : *items) {
      bytes += item.id.size() + 2 * item.json.size() + kEntryBytes;  // with its value
    }
  }
  return bytes;
}

void ResponseStore::put(StoredResponse response) {
  const std::lock_guard lock(mutex_);
  const size_t bytes = bytes_of(response);
  if (by_id_.contains(response.id) || bytes > max_bytes_) return;
  responses_.push_front(std::move(response));
  bytes_ += bytes;
  const auto stored = responses_.begin();
  by_id_.emplace(stored->id, stored);
  std::unordered_set<std::string_view> known;  // a request may name many items alike
  for (const auto* items : {&stored->input, &stored->output}) {
    for (const StoredItem& item : *items) {
      if (known.insert(item.id).second) items_.emplace(item.id, Holder{&item, stored->connection});
    }
  }
  trim();
}

void ResponseStore::set_max_bytes(size_t max_bytes) {
  const std::lock_guard lock(mutex_);
  max_bytes_ = max_bytes;
  trim();
}

void ResponseStore::trim() {
  while (bytes_ > max_bytes_) remove(std::prev(responses_.end()));
}

void ResponseStore::remove(Responses::iterator response) {
  bytes_ -= bytes_of(*response);
  for (const auto* items : {&response->input, &response->output}) {
    for (const StoredItem& item : *items) {
      const auto [begin, end] = items_.equal_range(item.id);
      const auto is_it = [&item](const auto& entry) { return entry.second.item == &item; };
      const auto entry = std::find_if(begin, end, is_it);
      if (entry != end) items_.erase(entry);
    }
  }
  by_id_.erase(response->id);
  responses_.erase(response);
}

std::optional<StoredResponse> ResponseStore::find(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->connection != kNoConnection) return std::nullopt;
  responses_.splice(responses_.begin(), responses_, found->second);
  return *found->second;
}

bool ResponseStore::erase(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->connection != kNoConnection) return false;
  remove(found->second);
  return true;
}

void ResponseStore::forget(ConnectionId connection) {
  const std::lock_guard lock(mutex_);
  for (auto response = responses_.begin(); response != responses_.end();) {
    const auto next = std::next(response);
    if (response->connection == connection) remove(response);
    response = next;
  }
}

// The oldest response of the chain is used last, so that a conversation is forgotten from its end.
std::optional<std::vector<StoredItem>> ResponseStore::conversation(const std::string& id,
                                                                   ConnectionId connection) {
  const std::lock_guard lock(mutex_);
  std::vector<const StoredResponse*> chain;
  for (std::string_view next = id; !next.empty(); next = chain.back()->previous_id) {
    const auto found = by_id_.find(next);
    if (found == by_id_.end()) return std::nullopt;
    if (!is_visible(found->second->connection, connection)) return std::nullopt;
    responses_.splice(responses_.begin(), responses_, found->second);
    chain.push_back(&*found->second);
  }
  std::vector<StoredItem> items;
  for (auto response = chain.rbegin(); response != chain.rend(); ++response) {
    const auto add = [&items](const std::vector<StoredItem>& more) {
      items.insert(items.end(), more.begin(), more.end());
    };
    add((*response)->input);
    add((*response)->output);
  }
  return items;
}

std::optional<StoredItem> ResponseStore::find_item(const std::string& id, ConnectionId connection) {
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = items_.equal_range(id);
  const auto found = std::find_if(begin, end, [connection](const auto& entry) {
    return is_visible(entry.second.connection, connection);
  });
  if (found == end) return std::nullopt;
  return *found->second.item;
}

}  // namespace ultraspeed::server
