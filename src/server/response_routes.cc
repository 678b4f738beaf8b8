#include "server/response_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include "server/json_text.h"
#include "server/routes.h"

namespace ultraspeed::server {
namespace {

constexpr size_t kDefaultPage = 20;
constexpr size_t kMaxPage = 100;

tl::unexpected<ApiError> response_not_found(std::string_view id) {
  ApiError error;
  error.status = 404;
  error.message = fmt::format("No response with the id '{}' is stored.", id);
  error.code = "response_not_found";
  return tl::unexpected(std::move(error));
}

ApiResult<size_t> page_size(std::string_view target) {
  const std::string_view text = query_value(target, "limit");
  if (text.empty()) return kDefaultPage;
  size_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number || size < 1 || size > kMaxPage) {
    return invalid_field(
        "limit", fmt::format("'limit' is '{}'; it must be between 1 and {}.", text, kMaxPage));
  }
  return size;
}

}  // namespace

ApiResult<std::string> read_response(ResponseStore& store, const std::string& id,
                                     std::string_view target) {
  auto response = store.find(id);
  if (!response) return response_not_found(id);
  if (query_value(target, "stream") == "true") {
    return unsupported_field("stream",
                             "A stored response is not streamed again; leave 'stream' "
                             "out.");
  }
  return std::move(response->json);
}

ApiResult<std::string> delete_response(ResponseStore& store, const std::string& id) {
  if (!store.erase(id)) return response_not_found(id);
  std::string out = R"({"id":)";
  append_json_string(out, id);
  return out + R"(,"object":"response","deleted":true})";
}

ApiResult<std::string> list_input_items(ResponseStore& store, const std::string& id,
                                        std::string_view target) {
  US_ASSIGN(const size_t limit, page_size(target));
  const std::string_view order = query_value(target, "order");
  if (!order.empty() && order != "asc" && order != "desc") {
    return invalid_field("order",
                         fmt::format("'order' is '{}'; it must be 'asc' or 'desc'.", order));
  }
  auto response = store.find(id);
  if (!response) return response_not_found(id);
  std::vector<StoredItem>& items = response->input;
  if (order != "asc") std::reverse(items.begin(), items.end());
  auto begin = items.begin();
  const std::string_view after = query_value(target, "after");
  if (!after.empty()) {
    begin = std::find_if(begin, items.end(), [&](const auto& item) { return item.id == after; });
    if (begin == items.end()) {
      return invalid_field("after",
                           fmt::format("'after' is '{}', which is none of the items.", after));
    }
    ++begin;
  }
  const auto end =
      begin + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(limit), items.end() - begin);
  std::string out = R"({"object":"list","data":[)";
  for (auto item = begin; item != end; ++item) {
    if (item != begin) out += ',';
    out += item->json;
  }
  out += R"(],"first_id":)";
  append_json_string(out, begin == end ? std::string() : begin->id);
  out += R"(,"last_id":)";
  append_json_string(out, begin == end ? std::string() : std::prev(end)->id);
  out += end == items.end() ? R"(,"has_more":false})" : R"(,"has_more":true})";
  return out;
}

}  // namespace ultraspeed::server
