#include "server/responses_input.h"

#include <fmt/format.h>

#include <utility>

#include "server/conversation_reader.h"
#include "server/exchange.h"

namespace ultraspeed::server {
namespace {

std::string_view id_prefix_of(std::string_view type) {
  if (type == "reasoning") return "rs_";
  if (type == "function_call") return "fc_";
  if (type == "function_call_output") return "fco_";
  if (type == "custom_tool_call") return "ctc_";
  if (type == "custom_tool_call_output") return "ctco_";
  return "msg_";
}

// The item as lists of items show it, with what clients may leave out.
StoredItem stored_form(Json item) {
  const std::string type = item_type(item);
  item["type"] = type;
  const bool has_id = item["id"].is_string() && item["id"] != "";
  if (!has_id) item["id"] = fmt::format("{}{}", id_prefix_of(type), random_id());
  if (!item["status"].is_string()) item["status"] = "completed";
  if (type == "message" && item["content"].is_string()) {
    const bool is_answer = item["role"] == "assistant";
    Json part = {{"type", is_answer ? "output_text" : "input_text"}, {"text", item["content"]}};
    if (is_answer) part["annotations"] = Json::array();
    item["content"] = Json::array({std::move(part)});
  }
  return {item["id"].get<std::string>(), item.dump()};
}

// Reads the input of a request behind the conversation that it continues.
class InputReader {
 public:
  InputReader(ResponseStore& store, ConnectionId connection, bool is_kept)
      : store_(store), connection_(connection), is_kept_(is_kept) {}

  ApiResult<ResponsesInput> read(const Fields& fields) {
    std::string instructions;
    US_TRY(fields.read("instructions", &instructions));
    if (!instructions.empty()) conversation_.add_instructions(instructions);
    US_TRY(add_previous(fields));
    US_TRY(add_input(fields));
    result_.messages = conversation_.take();
    if (result_.messages.empty()) return invalid_field("input", "'input' is missing or empty.");
    return std::move(result_);
  }

 private:
  ApiStatus add_previous(const Fields& fields) {
    std::string& id = result_.previous_id;
    US_TRY(fields.read("previous_response_id", &id));
    if (id.empty()) return {};
    const auto items = store_.conversation(id, connection_);
    if (!items) {
      ApiError error;
      error.message = fmt::format(
          "The response '{}', or one that it continues, is not stored (any more). Send the whole "
          "conversation in 'input'.",
          id);
      error.param = "previous_response_id";
      error.code = "previous_response_not_found";
      return tl::unexpected(std::move(error));
    }
    for (const StoredItem& item : *items) US_TRY(add_stored(item, "previous_response_id"));
    return {};
  }

  ApiStatus add_input(const Fields& fields) {
    const Json* input = fields.find("input");
    if (input == nullptr) return {};
    if (input->is_string()) {
      return add_item({{"type", "message"}, {"role", "user"}, {"content", *input}}, "input");
    }
    if (!input->is_array()) {
      return invalid_field("input", fmt::format("'input' must be a string or an array of items, "
                                                "not {}.",
                                                type_name(*input)));
    }
    for (size_t i = 0; i < input->size(); ++i) {
      US_TRY(add_item((*input)[i], element_path("input", i)));
    }
    return {};
  }

  ApiStatus add_item(const Json& item, const std::string& path) {
    US_TRY(check_object(item, path));
    if (item_type(item) == "item_reference") return add_reference(Fields(item, path));
    US_TRY(conversation_.add(item, path));
    if (is_kept_) result_.items.push_back(stored_form(item));
    return {};
  }

  ApiStatus add_reference(const Fields& fields) {
    std::string id;
    US_TRY(fields.read("id", &id));
    const auto item = store_.find_item(id, connection_);
    if (!item) {
      return invalid_field(fields.path("id"),
                           fmt::format("'{}' is '{}'; no item of that id is stored (any more).",
                                       fields.path("id"), id));
    }
    US_TRY(add_stored(*item, fields.path("id")));
    if (is_kept_) result_.items.push_back(*item);
    return {};
  }

  ApiStatus add_stored(const StoredItem& item, const std::string& path) {
    const ApiResult<Json>& json = item.value();
    if (!json) return tl::unexpected(json.error());
    return conversation_.add(*json, path);
  }

  ResponseStore& store_;
  const ConnectionId connection_;
  const bool is_kept_;
  ConversationReader conversation_;
  ResponsesInput result_;
};

}  // namespace

ApiResult<ResponsesInput> read_responses_input(const Fields& fields, ResponseStore& store,
                                               ConnectionId connection, bool is_kept) {
  return InputReader(store, connection, is_kept).read(fields);
}

}  // namespace ultraspeed::server
