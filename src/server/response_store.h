// Responses that clients may come back to: to read or delete them, to continue their conversation
// (previous_response_id), or to name one of their items in an input (item_reference).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/json_fields.h"

namespace ultraspeed::server {

// What an item's JSON says, read when it is first wanted. Any thread.
class ItemValue {
 public:
  const ApiResult<Json>& of(const std::string& json);

 private:
  std::once_flag once_;
  ApiResult<Json> value_;
};

struct StoredItem {
  std::string id;
  std::string json;
  std::shared_ptr<ItemValue> shared_value = std::make_shared<ItemValue>();

  const ApiResult<Json>& value() const { return shared_value->of(json); }
};

// Of the WebSocket on which a response was made that is not to be stored: those that follow on the
// same connection may continue it, nobody else sees it, and it goes with the connection.
using ConnectionId = uint64_t;
inline constexpr ConnectionId kNoConnection = 0;

struct StoredResponse {
  std::string id;
  std::string previous_id;        // of the response that this one continues, or empty
  std::vector<StoredItem> input;  // of its own request
  std::vector<StoredItem> output;
  std::string json;  // the whole response
  ConnectionId connection = kNoConnection;
};

// The responses that were used last, up to so many bytes. A conversation is a chain of responses,
// each of which has only what it added, so that several may continue the same one. Any thread.
class ResponseStore {
 public:
  explicit ResponseStore(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Forgets what is more.
  void set_max_bytes(size_t max_bytes);

  void put(StoredResponse response);
  std::optional<StoredResponse> find(const std::string& id);
  bool erase(const std::string& id);  // false: there was none
  void forget(ConnectionId connection);

  // Inputs and outputs of the response and of all that it continues, the oldest first. Nothing, if
  // one of them is not there any more.
  std::optional<std::vector<StoredItem>> conversation(const std::string& id,
                                                      ConnectionId connection = kNoConnection);
  std::optional<StoredItem> find_item(const std::string& id,
                                      ConnectionId connection = kNoConnection);

 private:
  using Responses = std::list<StoredResponse>;
  struct Holder {
    const StoredItem* item = nullptr;
    ConnectionId connection = kNoConnection;
  };
  static size_t bytes_of(const StoredResponse& response);
  void remove(Responses::iterator response);
  void trim();

  std::mutex mutex_;
  size_t max_bytes_;
  Responses responses_;  // the one used last comes first
  std::unordered_map<std::string_view, Responses::iterator> by_id_;
  // A client may send the same item in several requests; any of them will do.
  std::unordered_multimap<std::string_view, Holder> items_;
  size_t bytes_ = 0;
};

}  // namespace ultraspeed::server
